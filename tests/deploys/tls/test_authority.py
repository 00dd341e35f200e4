"""The authority's files on the laptop."""

from __future__ import annotations

import stat
import subprocess
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deploys.tls.authority import (
    authority,
    authority_certificate,
    known_authorities,
    remember,
    trusted_certificate,
    unencrypted_key,
)
from deploys.tls.certificate import KeyPair, new_authority, new_certificate
from deploys.tls.settings import TlsSettings
from inventory.errors import ClawdError
from inventory.secrets import generate_identity
from inventory.sections.tls import Acme, Tls

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
DAYS = timedelta(days=90)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_authority_is_created_once_with_private_files(tmp_path: Path) -> None:
    state = tmp_path / ".clawd" / "p"
    assert authority_certificate(state) is None
    first = authority(state, "p", DAYS, NOW)
    again = authority(state, "p", DAYS, NOW + timedelta(days=100))
    assert first.certificate == again.certificate
    assert first.key_pem == again.key_pem
    assert authority_certificate(state) == first.certificate
    assert [mode(path) for path in (state, state / "ca", state / "ca" / "ca.key")] == [0o700, 0o700, 0o600]
    assert [path.name for path in state.iterdir()] == ["ca"]


def test_concurrent_creations_return_the_same_authority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[KeyPair] = []

    def while_another_is_faster(project: str, now: datetime, names: Sequence[str]) -> KeyPair:
        monkeypatch.undo()
        made.append(authority(tmp_path, project, DAYS, now))
        return new_authority(project, now, names)

    monkeypatch.setattr("deploys.tls.authority.new_authority", while_another_is_faster)
    assert authority(tmp_path, "p", DAYS, NOW).key_pem == made[0].key_pem
    assert {path.name for path in tmp_path.iterdir()} == {"ca", ".gitignore"}


def test_concurrent_writes_of_the_same_certificate_succeed(
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


def test_damaged_or_mixed_authority_files_are_refused(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    authority(one, "p", DAYS, NOW)
    authority(two, "p", DAYS, NOW)
    (one / "ca" / "ca.key").write_bytes((two / "ca" / "ca.key").read_bytes())
    with pytest.raises(ClawdError, match="does not belong"):
        authority(one, "p", DAYS, NOW)
    (one / "ca" / "ca.key").write_bytes(b"")
    with pytest.raises(ClawdError, match="cannot be read"):
        authority(one, "p", DAYS, NOW)
    (one / "ca" / "ca.key").unlink()
    with pytest.raises(ClawdError, match=r"ca\.key is missing") as missing:
        authority(one, "p", DAYS, NOW)
    assert "copy" in (missing.value.advice or "")
    (two / "ca" / "ca.key").chmod(0o644)
    with pytest.raises(ClawdError, match="open to others"):
        authority(two, "p", DAYS, NOW)


def test_authority_that_expires_before_its_certificates_is_refused(tmp_path: Path) -> None:
    authority(tmp_path, "p", DAYS, NOW)
    with pytest.raises(ClawdError, match="ends on 2036"):
        authority(tmp_path, "p", DAYS, NOW + timedelta(days=3600))


def test_trusted_certificate_is_that_of_authority_or_host(tmp_path: Path) -> None:
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


def test_public_certificates_need_no_trusted_certificate(tmp_path: Path) -> None:
    assert trusted_certificate(tmp_path, Tls(mode="provided"), "bot1") is None
    assert trusted_certificate(tmp_path, Tls(mode="acme"), "bot1") is None
    own = Acme(server="https://ca.example.com/dir", authority=tmp_path / "root.pem")
    assert trusted_certificate(tmp_path, Tls(mode="acme", acme=own), "bot1") == tmp_path / "root.pem"


NAMES = ("bot.example.com", "*.team.example.com", "10.0.0.5", "fd00::5", "bot1")


def accepted(signer: KeyPair, *names: str, subject: str = "") -> bool:
    """Whether OpenSSL takes a certificate for these names that this authority has signed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        leaf = new_certificate(TlsSettings(names=names, subject=subject), signer, NOW)
        (folder / "ca.pem").write_bytes(signer.certificate_pem)
        (folder / "leaf.pem").write_bytes(leaf.certificate_pem)
        words = ["openssl", "verify", "-attime", str(int(NOW.timestamp())), "-CAfile", "ca.pem", "leaf.pem"]
        return subprocess.run(words, cwd=folder, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize(
    "names",
    [
        ("bot.example.com",),
        ("a.bot.example.com",),
        ("x.team.example.com", "10.0.0.5"),
        ("10.0.0.5",),
        ("fd00::5",),
        ("bot1", "127.0.0.1"),
        ("bot.clawd.internal", "10.0.0.5"),
        ("localhost",),
    ],
)
def test_authority_signs_for_the_names_of_the_project(tmp_path: Path, names: tuple[str, ...]) -> None:
    assert accepted(authority(tmp_path, "p", DAYS, NOW, NAMES), *names)


def test_authority_signs_for_common_names_below_a_host(tmp_path: Path) -> None:
    """As of Filebeat, by which Logstash knows whose lines come."""
    signer = authority(tmp_path, "p", DAYS, NOW, NAMES)
    assert accepted(signer, "10.0.0.5", subject="filebeat.bot1")
    assert not accepted(signer, "10.0.0.5", subject="filebeat.bot2")


@pytest.mark.parametrize(
    "names",
    [("example.com",), ("bank.example",), ("10.0.0.6",), ("fd00::6",), ("bot.example.com", "8.8.8.8")],
)
def test_authority_is_not_accepted_for_names_outside_the_project(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    assert not accepted(authority(tmp_path, "p", DAYS, NOW, NAMES), *names)


def test_authority_of_a_growing_project_is_renewed_with_the_same_key(tmp_path: Path) -> None:
    first = authority(tmp_path, "p", DAYS, NOW, NAMES)
    assert authority(tmp_path, "p", DAYS, NOW, NAMES[:2]).certificate == first.certificate
    more = authority(tmp_path, "p", DAYS, NOW, (*NAMES, "10.0.0.9"))
    assert more.key_pem == first.key_pem
    assert accepted(more, "10.0.0.9")
    assert accepted(more, "10.0.0.5")
    assert not accepted(more, "10.0.0.10")
    leaf = new_certificate(TlsSettings(names=("10.0.0.5",)), first, NOW)
    leaf.certificate.verify_directly_issued_by(more.certificate)
    assert more.certificate.not_valid_after_utc == first.certificate.not_valid_after_utc
    assert authority_certificate(tmp_path) == more.certificate
    assert mode(tmp_path / "ca" / "ca.pem") == 0o644


def test_authority_of_an_earlier_version_is_kept_for_any_name(tmp_path: Path) -> None:
    earlier = authority(tmp_path, "p", DAYS, NOW)
    later = authority(tmp_path, "p", DAYS, NOW, NAMES)
    assert later.certificate == earlier.certificate
    assert accepted(later, "anything.example")


def test_renamed_authority_is_known_after_rotation(tmp_path: Path) -> None:
    old = authority(tmp_path, "p", DAYS, NOW)
    (tmp_path / "ca").rename(tmp_path / "ca.old")
    new = authority(tmp_path, "p", DAYS, NOW)
    assert new.key_pem != old.key_pem
    assert set(known_authorities(tmp_path)) == {old.certificate, new.certificate}


def test_authority_key_is_encrypted_to_the_recipients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / ".clawd" / "p"
    plain = authority(state, "p", DAYS, NOW)
    assert unencrypted_key(state) == state / "ca" / "ca.key"
    mine, colleague = (tmp_path / name for name in ("mine.key", "colleague.key"))
    recipients = [generate_identity(path) for path in (mine, colleague)]
    (tmp_path / ".clawd" / "recipients").write_text("\n".join(recipients))
    monkeypatch.setenv("CLAWD_AGE_KEY_FILE", str(mine))
    assert authority(state, "p", DAYS, NOW).key_pem == plain.key_pem
    assert sorted(path.name for path in (state / "ca").iterdir()) == ["ca.key.age", "ca.pem"]
    assert unencrypted_key(state) is None
    monkeypatch.setenv("CLAWD_AGE_KEY_FILE", str(colleague))
    assert authority(state, "p", DAYS, NOW).key_pem == plain.key_pem
    made = authority(tmp_path / ".clawd" / "q", "q", DAYS, NOW)
    encrypted = tmp_path / ".clawd" / "q" / "ca" / "ca.key.age"
    assert mode(encrypted) == 0o600
    assert made.key_pem not in encrypted.read_bytes()
    generate_identity(tmp_path / "stranger.key")
    monkeypatch.setenv("CLAWD_AGE_KEY_FILE", str(tmp_path / "stranger.key"))
    with pytest.raises(ClawdError, match="cannot be decrypted here"):
        authority(state, "p", DAYS, NOW)


def test_authority_key_is_not_encrypted_without_a_recipient_on_this_laptop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or this computer could not sign a second time."""
    state = tmp_path / ".clawd" / "p"
    (tmp_path / ".clawd").mkdir()
    mine, colleague = (tmp_path / name for name in ("mine.key", "colleague.key"))
    generate_identity(mine)
    (tmp_path / ".clawd" / "recipients").write_text(generate_identity(colleague))
    monkeypatch.setenv("CLAWD_AGE_KEY_FILE", str(mine))
    authority(state, "p", DAYS, NOW)
    assert unencrypted_key(state) == state / "ca" / "ca.key"
    assert authority(state, "p", DAYS, NOW)
