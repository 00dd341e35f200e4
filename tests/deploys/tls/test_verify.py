"""What the checks of the certificate say about chains of other hands."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from deploys.tls import verify
from deploys.tls.certificate import KeyPair, new_authority, new_certificate, public_key_sha256
from deploys.tls.settings import TlsSettings

WANTED = TlsSettings(project="ours", names=("bot.example.com",))
NOW = datetime.now(UTC)
OURS, NAMESAKE, THEIRS = (new_authority(project, NOW) for project in ("ours", "ours", "theirs"))
LEAF, ALONE = new_certificate(WANTED, OURS, NOW), new_certificate(WANTED, None, NOW)


def host_with(*chain: KeyPair) -> Any:
    """A host with this chain, and the private key of its first certificate."""
    pem = b"".join(pair.certificate_pem for pair in chain)
    key = public_key_sha256(chain[0].certificate) if chain else ""
    stdout = f"600\n{key}\n{b64encode(pem).decode()}\n"
    return SimpleNamespace(run=lambda _command: SimpleNamespace(stdout=stdout))


HOLDS, ENDS = verify.test_certificate_holds, verify.test_chain_ends_with_the_authority_of_the_project


def test_checks_pass_for_the_declared_chain() -> None:
    HOLDS(host_with(LEAF, OURS), WANTED)
    ENDS(host_with(LEAF, OURS), WANTED)
    alone = WANTED.model_copy(update={"mode": "self-signed"})
    HOLDS(host_with(ALONE), alone)
    ENDS(host_with(ALONE), alone)


@pytest.mark.parametrize(
    ("check", "chain", "said"),
    [
        (HOLDS, (), "there is none"),
        (HOLDS, (LEAF, NAMESAKE), "another authority signed it"),
        (ENDS, (), "does not end with CN=ours certificate authority"),
        (ENDS, (LEAF,), "does not end with CN=ours"),
        (ENDS, (ALONE,), "does not end with CN=ours"),
        (ENDS, (new_certificate(WANTED, THEIRS, NOW), THEIRS), "does not end with CN=ours"),
    ],
)
def test_checks_fail_for_another_chain_with_the_reason(
    check: Callable[[Any, TlsSettings], None], chain: tuple[KeyPair, ...], said: str
) -> None:
    with pytest.raises(AssertionError, match=said):
        check(host_with(*chain), WANTED)
