"""Checks of the certificate, read-only."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from cryptography import x509

from deploys.tls.certificate import Installed, authority_name, reason_to_issue
from deploys.tls.deploy import CHAIN, KEY, CertificateFact
from deploys.tls.settings import TlsSettings


def test_certificate_holds(host: Any, settings: TlsSettings) -> None:
    installed = _installed(host)
    chain = _chain(installed)
    # Only the laptop has the authority itself: here a chain has to be whole, and to end with one of its name.
    reason = reason_to_issue(installed, settings, chain[-1] if chain else None, datetime.now(UTC))
    assert reason is None, f"{CHAIN}: {reason}"


def test_chain_ends_with_the_authority_of_the_project(host: Any, settings: TlsSettings) -> None:
    if settings.mode == "own-ca":
        ends = [certificate.subject for certificate in _chain(_installed(host))[-1:]]
        wanted = authority_name(settings.project)
        assert ends == [wanted], f"{CHAIN} does not end with {wanted.rfc4514_string()}"


def test_private_key_is_private(host: Any) -> None:
    key = host.file(host.check_output("readlink -f %s", KEY))
    assert (key.user, key.mode) == ("root", 0o600)


def _installed(host: Any) -> Installed:
    fact = CertificateFact()
    installed: Installed = fact.process(host.run(fact.command(CHAIN, KEY)).stdout.split("\n"))
    return installed


def _chain(installed: Installed) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(installed.chain)
    except ValueError:
        return []
