"""Checks of the certificate, read-only."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from cryptography import x509

from deploys.tls.certificate import Installed, reason_to_issue
from deploys.tls.deploy import CHAIN, KEY, CertificateFact
from deploys.tls.settings import TlsSettings


def test_certificate_holds(host: Any, settings: TlsSettings) -> None:
    fact = CertificateFact()
    installed: Installed = fact.process(host.run(fact.command(CHAIN, KEY)).stdout.split("\n"))
    chain = x509.load_pem_x509_certificates(installed.chain)
    reason = reason_to_issue(installed, settings, chain[-1], datetime.now(UTC))
    assert reason is None, f"{CHAIN}: {reason}"


def test_private_key_is_private(host: Any) -> None:
    key = host.file(host.check_output("readlink -f %s", KEY))
    assert (key.user, key.mode) == ("root", 0o600)
