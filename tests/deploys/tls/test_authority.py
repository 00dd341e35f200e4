"""The authority's files on the laptop."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deploys.tls.authority import authority, authority_certificate, remember, trusted_certificate
from deploys.tls.certificate import KeyPair, new_authority
from inventory.errors import ClawdError
from inventory.sections.tls import Acme, Tls

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
DAYS = timedelta(days=90)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_made_once_and_private(tmp_path: Path) -> None:
    state = tmp_path / ".clawd" / "p"
    assert authority_certificate(state) is None
    first = authority(state, "p", DAYS, NOW)
    again = authority(state, "p", DAYS, NOW + timedelta(days=100))
    assert first.certificate == again.certificate
    assert first.key_pem == again.key_pem
    assert authority_certificate(state) == first.certificate
    assert [mode(path) for path in (state, state / "ca", state / "ca" / "ca.key")] == [0o700, 0o700, 0o600]
    assert [path.name for path in state.iterdir()] == ["ca"]


def test_of_two_that_make_it_at_the_same_moment_both_have_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[KeyPair] = []

    def while_another_is_faster(project: str, now: datetime) -> KeyPair:
        monkeypatch.undo()
        made.append(authority(tmp_path, project, DAYS, now))
        return new_authority(project, now)

    monkeypatch.setattr("deploys.tls.authority.new_authority", while_another_is_faster)
    assert authority(tmp_path, "p", DAYS, NOW).key_pem == made[0].key_pem
    assert [path.name for path in tmp_path.iterdir()] == ["ca"]


def test_two_that_remember_the_same_certificate_do_not_meet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace

    def while_another_does_too(self: Path, target: Path) -> Path:
        monkeypatch.undo()
        remember(tmp_path, "bot1", b"certificate of bot1")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", while_another_does_too)
    remember(tmp_path, "bot1", b"certificate of bot1")
    assert [path.name for path in (tmp_path / "tls").iterdir()] == ["bot1.pem"]


def test_damaged_or_mixed_files_are_not_replaced_silently(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    authority(one, "p", DAYS, NOW)
    authority(two, "p", DAYS, NOW)
    (one / "ca" / "ca.key").write_bytes((two / "ca" / "ca.key").read_bytes())
    with pytest.raises(ClawdError, match="does not belong"):
        authority(one, "p", DAYS, NOW)
    (one / "ca" / "ca.key").write_bytes(b"")
    with pytest.raises(ClawdError, match="cannot be read"):
        authority(one, "p", DAYS, NOW)


def test_authority_that_ends_too_early_is_refused(tmp_path: Path) -> None:
    authority(tmp_path, "p", DAYS, NOW)
    with pytest.raises(ClawdError, match="ends on 2036"):
        authority(tmp_path, "p", DAYS, NOW + timedelta(days=3600))


def test_what_the_laptop_trusts(tmp_path: Path) -> None:
    state = tmp_path / "state"
    own_ca, self_signed = Tls(mode="own-ca"), Tls(mode="self-signed")
    for tls in (own_ca, self_signed):
        with pytest.raises(ClawdError, match="does not exist"):
            trusted_certificate(state, tls, "bot1")
    authority(state, "p", DAYS, NOW)
    remember(state, "bot1", b"certificate of bot1")
    assert trusted_certificate(state, own_ca, "bot1") == state / "ca" / "ca.pem"
    pinned = trusted_certificate(state, self_signed, "bot1")
    assert pinned is not None
    assert pinned.read_bytes() == b"certificate of bot1"


def test_what_public_authorities_sign_is_trusted_as_everywhere(tmp_path: Path) -> None:
    assert trusted_certificate(tmp_path, Tls(mode="provided"), "bot1") is None
    assert trusted_certificate(tmp_path, Tls(mode="acme"), "bot1") is None
    own = Acme(server="https://ca.example.com/dir", authority=tmp_path / "root.pem")
    assert trusted_certificate(tmp_path, Tls(mode="acme", acme=own), "bot1") == tmp_path / "root.pem"
