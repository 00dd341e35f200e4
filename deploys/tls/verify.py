"""Checks of the certificate, read-only."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from cryptography import x509

from deploys.tls.certificate import Installed, authority_name, reason_to_issue
from deploys.tls.deploy import CHAIN, KEY, CertificateFact
from deploys.tls.renewal import LEGO, METRICS
from deploys.tls.settings import TlsSettings

LITTLE = 0.1
"""The part of its lifetime with which a certificate from elsewhere should have a successor."""


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


def test_certificate_does_not_end_soon(host: Any) -> None:
    (leaf, *_) = _chain(_installed(host))
    left = leaf.not_valid_after_utc - datetime.now(UTC)
    whole = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    assert left > LITTLE * whole, f"{CHAIN} ends on {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"


def test_looked_at_every_hour(host: Any) -> None:
    timer = host.service("clawd-tls.timer")
    assert timer.is_enabled
    assert timer.is_running


def test_renewal_does_not_fail(host: Any, settings: TlsSettings) -> None:
    if settings.mode == "acme":
        assert not host.file(f"{LEGO}/failed").exists, (
            "the last attempt failed: see `journalctl -u clawd-tls.service`"
        )


def test_end_is_told_to_metrics(host: Any) -> None:
    if host.file(METRICS.rsplit("/", 1)[0]).is_directory:
        (leaf, *_) = _chain(_installed(host))
        told = f"clawd_tls_not_after_seconds {leaf.not_valid_after_utc.timestamp():.0f}"
        assert told in host.file(METRICS).content_string


def _installed(host: Any) -> Installed:
    fact = CertificateFact()
    installed: Installed = fact.process(host.run(fact.command(CHAIN, KEY)).stdout.split("\n"))
    return installed


def _chain(installed: Installed) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(installed.chain)
    except ValueError:
        return []
