"""Read-only checks of the certificate."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from cryptography import x509

from deploys.ops.checks import expect, expect_owner, expect_timer
from deploys.tls.certificate import Installed, authority_name, reason_to_issue
from deploys.tls.deploy import CHAIN, KEY, CertificateFact
from deploys.tls.renewal import LEGO, METRICS
from deploys.tls.settings import TlsSettings

LITTLE = 0.1
"""Fraction of its lifetime below which a provided certificate should have been replaced."""
HINT = "run `up`, which makes or renews it; a provided one you replace in the inventory"


def test_certificate_holds(host: Any, settings: TlsSettings) -> None:
    installed = _installed(host)
    chain = _chain(installed)
    # Only the laptop has the authority itself: here a chain must be complete, and end with one of its name.
    reason = reason_to_issue(installed, settings, chain[-1] if chain else None, datetime.now(UTC))
    expect(reason is None, f"{CHAIN}: {reason}", HINT)


def test_chain_ends_with_the_authority_of_the_project(host: Any, settings: TlsSettings) -> None:
    if settings.mode == "own-ca":
        ends = [certificate.subject for certificate in _chain(_installed(host))[-1:]]
        wanted = authority_name(settings.project)
        expect(ends == [wanted], f"{CHAIN} does not end with {wanted.rfc4514_string()}", HINT)


def test_private_key_is_private(host: Any) -> None:
    expect_owner(host, host.check_output("readlink -f %s", KEY), "root", 0o600)


def test_certificate_does_not_end_soon(host: Any) -> None:
    leaf = _leaf(host)
    left = leaf.not_valid_after_utc - datetime.now(UTC)
    whole = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    end = f"{leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
    expect(left > LITTLE * whole, f"{CHAIN} {'ends' if left.total_seconds() > 0 else 'ended'} on {end}", HINT)


def test_looked_at_every_hour(host: Any) -> None:
    expect_timer(host, "clawd-tls.timer", hours=2)


def test_renewal_does_not_fail(host: Any, settings: TlsSettings) -> None:
    if settings.mode == "acme":
        failed = host.file(f"{LEGO}/failed").exists
        expect(not failed, "the last renewal failed", "read `journalctl -u clawd-tls` on the host")


def test_end_is_told_to_metrics(host: Any) -> None:
    if host.file(METRICS.rsplit("/", 1)[0]).is_directory:
        line = f"clawd_tls_not_after_seconds {_leaf(host).not_valid_after_utc.timestamp():.0f}"
        expect(host.file(METRICS).exists, f"{METRICS} is missing")
        expect(line in host.file(METRICS).content_string, f"{METRICS} has another end than {CHAIN}")


def _installed(host: Any) -> Installed:
    fact = CertificateFact()
    installed: Installed = fact.process(host.run(fact.command(CHAIN, KEY)).stdout.split("\n"))
    return installed


def _leaf(host: Any) -> x509.Certificate:
    chain = _chain(_installed(host))
    expect(chain, f"{CHAIN} holds no certificate", HINT)
    return chain[0]


def _chain(installed: Installed) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(installed.chain)
    except ValueError:
        return []
