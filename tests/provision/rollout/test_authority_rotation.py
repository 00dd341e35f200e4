"""Which pass of the authority's rotation is next, by what hosts have."""

from __future__ import annotations

import subprocess
from base64 import b64encode
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509

from deploys.artifacts import NO_ROTATION, Rotation
from deploys.ops.shell import assignments
from deploys.tls.certificate import new_authority, new_certificate, public_key_sha256
from deploys.tls.settings import TlsSettings
from provision.rollout import authority_rotation
from provision.rollout.authority_rotation import HostAuthorities, rotation

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
OLD, NEW, OLDEST = (new_authority("team", NOW) for _ in range(3))
CERTIFICATES = {
    name: new_certificate(TlsSettings(names=("10.0.0.1",)), signer, NOW).certificate_pem
    + signer.certificate_pem
    for name, signer in (("old", OLD), ("new", NEW))
}
FORMER = (OLDEST.certificate, OLD.certificate)
KEPT = (OLD.certificate_pem,)


def host(signer: str, *trusted: x509.Certificate) -> HostAuthorities:
    return HostAuthorities((CERTIFICATES[signer],), (frozenset(map(public_key_sha256, trusted)),))


BEFORE = host("old", OLD.certificate)
INTRODUCED = host("old", NEW.certificate, OLD.certificate)
SIGNED = host("new", NEW.certificate, OLD.certificate)
AFTER = host("new", NEW.certificate)


@pytest.mark.parametrize(
    ("one", "two", "expected"),
    [
        (BEFORE, BEFORE, Rotation(KEPT, introducing=True)),
        (INTRODUCED, BEFORE, Rotation(KEPT, introducing=True)),
        (INTRODUCED, INTRODUCED, Rotation(KEPT)),
        (SIGNED, INTRODUCED, Rotation(KEPT)),
        (SIGNED, SIGNED, NO_ROTATION),
        (AFTER, SIGNED, NO_ROTATION),
        (AFTER, AFTER, NO_ROTATION),
        (HostAuthorities(), HostAuthorities(), NO_ROTATION),
        (HostAuthorities(), BEFORE, Rotation(KEPT, introducing=True)),
    ],
)
def test_next_step_follows_from_certificates_of_all_hosts(
    one: HostAuthorities, two: HostAuthorities, expected: Rotation
) -> None:
    answers = {"one": one, "two": two}
    assert rotation(answers, ("one", "two"), NEW.certificate, FORMER) == expected
    assert rotation(dict(reversed(answers.items())), ("one", "two"), NEW.certificate, FORMER) == expected


def test_authority_that_is_not_made_yet_is_introduced_first() -> None:
    assert rotation({"one": BEFORE}, ("one",), None, FORMER) == Rotation(KEPT, introducing=True)


@pytest.mark.parametrize("known", [INTRODUCED, SIGNED])
def test_nothing_is_signed_and_no_trust_ends_while_a_host_is_unknown(known: HostAuthorities) -> None:
    assert rotation({"one": known}, ("one", "two"), NEW.certificate, FORMER) == Rotation(
        KEPT, introducing=True
    )


def test_trust_that_has_ended_is_not_taken_up_again() -> None:
    assert rotation({"one": AFTER}, ("one", "two"), NEW.certificate, FORMER) == NO_ROTATION


def test_every_file_of_a_host_has_to_trust_the_new_authority() -> None:
    half = HostAuthorities(INTRODUCED.chains, (*INTRODUCED.trusts, *BEFORE.trusts))
    assert rotation({"one": half}, ("one",), NEW.certificate, FORMER).introducing


def test_certificates_are_read_from_files_of_a_host(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("nginx", "runtime", "damaged", "acme", "absent")]
    for folder, chain, trusts in (
        (folders[0], CERTIFICATES["old"], OLD.certificate_pem),
        (folders[1], CERTIFICATES["new"], NEW.certificate_pem + OLD.certificate_pem),
        (folders[2], b"no certificate", b"neither"),
    ):
        folder.mkdir()
        (folder / "fullchain.pem").write_bytes(chain)
        (folder / "ca.pem").write_bytes(trusts)
    folders[3].mkdir()
    (folders[3] / "fullchain.pem").write_bytes(CERTIFICATES["old"])
    authority = tmp_path / "authority.pem"
    authority.write_bytes(NEW.certificate_pem)
    script = (
        assignments(folders=" ".join(map(str, folders)), authority=str(authority))
        + authority_rotation.PROGRAM
    )
    done = subprocess.run(["sh", "-euc", script], capture_output=True, text=True, check=True)
    old, new = public_key_sha256(OLD.certificate), public_key_sha256(NEW.certificate)
    assert HostAuthorities.parse(done.stdout) == HostAuthorities(
        (CERTIFICATES["old"], CERTIFICATES["new"], b"no certificate"),
        (frozenset({old}), frozenset({new, old}), frozenset(), frozenset({new})),
    )


def test_lines_of_others_in_the_answer_are_ignored() -> None:
    text = f"Welcome!\nchain={b64encode(CERTIFICATES['old']).decode()}\n"
    assert HostAuthorities.parse(text) == HostAuthorities((CERTIFICATES["old"],))


@pytest.mark.parametrize(("completes", "advice"), [(True, "in a second pass"), (False, "for all hosts")])
def test_unfinished_rotation_is_explained_with_what_completes_it(completes: bool, advice: str) -> None:
    assert authority_rotation.explained(NO_ROTATION, completes=completes) == ""
    said = authority_rotation.explained(Rotation(KEPT), completes=completes)
    assert said.startswith("a former authority is still trusted: ")
    assert advice in said
