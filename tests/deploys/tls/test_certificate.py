"""Whether a certificate still does, under a clock of the test's own, and whether clients take a new one."""

from __future__ import annotations

import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from deploys.tls.certificate import (
    CLOCK_SKEW,
    Installed,
    KeyPair,
    authority_name,
    new_authority,
    new_certificate,
    public_key_sha256,
    reason_to_issue,
)
from deploys.tls.settings import AcmeSettings, ProvidedSettings, TlsSettings, settings_for
from deploys.topology.addresses import canonical
from tests.deploys.inventories import inventory

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
WANTED = TlsSettings(names=("bot.example.com", "10.0.0.1", "2001:db8::1"))
SELF_SIGNED = WANTED.model_copy(update={"mode": "self-signed"})
AUTHORITY = new_authority("test", NOW)


def installed(pair: KeyPair, **changes: str) -> Installed:
    values = {"public_key_sha256": public_key_sha256(pair.certificate), "key_mode": "600", **changes}
    return Installed(pair.certificate_pem, **values)


OWN = new_certificate(WANTED, AUTHORITY, NOW)
ALONE = new_certificate(SELF_SIGNED, None, NOW)


@pytest.mark.parametrize(
    ("present", "wanted", "authority", "reason"),
    [
        (Installed(), WANTED, AUTHORITY, "there is none"),
        (Installed(b"-----BEGIN garbage"), WANTED, AUTHORITY, "the present one cannot be read"),
        (installed(OWN), WANTED, AUTHORITY, None),
        (installed(ALONE), SELF_SIGNED, None, None),
        (
            installed(OWN, public_key_sha256="0" * 64),
            WANTED,
            AUTHORITY,
            "its private key is missing or does not match",
        ),
        (installed(OWN, key_mode="644"), WANTED, AUTHORITY, "its private key could be read by others"),
        (
            installed(OWN),
            WANTED.model_copy(update={"names": ("other.example.com",)}),
            AUTHORITY,
            "the present one is for 10.0.0.1, 2001:db8::1, bot.example.com",
        ),
        (installed(OWN), WANTED, new_authority("test", NOW), "another authority signed it"),
        (installed(OWN), WANTED, None, "another authority signed it"),
        (installed(ALONE), WANTED, AUTHORITY, "another authority signed it"),
        (installed(OWN), SELF_SIGNED, None, "the present one is not self-signed"),
        (
            installed(OWN),
            WANTED.model_copy(update={"lifetime_days": 30}),
            AUTHORITY,
            "it is valid for longer than 30 days",
        ),
    ],
)
def test_reason_to_issue_names_what_changed(
    present: Installed, wanted: TlsSettings, authority: KeyPair | None, reason: str | None
) -> None:
    assert reason_to_issue(present, wanted, authority.certificate if authority else None, NOW) == reason


@given(
    lifetime=st.integers(1, 825),
    fraction=st.floats(0.01, 0.99),
    passed=st.floats(-0.5, 1.5, allow_nan=False),
)
def test_certificate_is_renewed_when_less_than_the_fraction_is_left(
    lifetime: int, fraction: float, passed: float
) -> None:
    wanted = SELF_SIGNED.model_copy(update={"lifetime_days": lifetime, "renew_fraction": fraction})
    pair = new_certificate(wanted, None, NOW)
    total = timedelta(days=lifetime) + CLOCK_SKEW
    at = NOW - CLOCK_SKEW + passed * total
    left = 1 - passed
    if abs(left - fraction) * total < timedelta(seconds=1) or abs(passed) * total < timedelta(seconds=1):
        return
    due = passed < 0 or left < fraction
    assert (reason_to_issue(installed(pair), wanted, None, at) is not None) == due


def test_new_certificate_is_not_due_at_once() -> None:
    for lifetime in (1, 7, 90, 825):
        wanted = SELF_SIGNED.model_copy(update={"lifetime_days": lifetime, "renew_fraction": 0.99})
        assert reason_to_issue(installed(new_certificate(wanted, None, NOW)), wanted, None, NOW) is None


SERVER = "https://ca.example.com/dir"
BY_ACME = TlsSettings(
    mode="acme", names=WANTED.names, acme=AcmeSettings(server=SERVER, email="a@example.com"), lifetime_days=7
)
GIVEN = ProvidedSettings(
    certificate=SecretStr(OWN.certificate_pem.decode()), key=SecretStr(OWN.key_pem.decode())
)
PROVIDED = TlsSettings(mode="provided", names=("any",), provided=GIVEN)


@pytest.mark.parametrize(
    ("present", "wanted", "days", "reason"),
    [
        (installed(OWN, source=SERVER), BY_ACME, 0, None),
        (installed(OWN, source=SERVER), BY_ACME, 70, None),
        (installed(OWN, source=SERVER), BY_ACME, 76, "it expires on 2027-02-20"),
        (installed(OWN), BY_ACME, 0, "the present one is from elsewhere"),
        (installed(OWN, source="https://other.example.com"), BY_ACME, 0, "the present one is from elsewhere"),
        (
            installed(OWN, source=SERVER),
            BY_ACME.model_copy(update={"names": ("other.example.com",)}),
            0,
            "the present one is for 10.0.0.1, 2001:db8::1, bot.example.com",
        ),
        (installed(OWN), PROVIDED, 80, None),
        (installed(ALONE), PROVIDED, 0, "another one is provided"),
        (installed(OWN), PROVIDED, 91, "it expired on 2027-02-20"),
    ],
)
def test_reason_to_issue_for_provided_and_acme_certificates(
    present: Installed, wanted: TlsSettings, days: int, reason: str | None
) -> None:
    """A host renews its certificate with a third left; here one that is late is noticed."""
    assert reason_to_issue(present, wanted, None, NOW + timedelta(days=days)) == reason


@pytest.mark.parametrize("given", [{"mode": "acme"}, {"mode": "provided"}, {"provided": GIVEN}])
def test_settings_of_another_mode_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="belongs to mode"):
        TlsSettings(names=("bot.example.com",), **given)


def test_settings_contain_declared_acme_values() -> None:
    acme = {"email": "a@example.com", "server": SERVER, "dns": {"environment": {"KEY": "of the provider"}}}
    declared = inventory(
        tls={"mode": "acme", "names": ["xn--Bcher-kva.example"], "acme": acme}, nginx={"http_port": 8880}
    )
    found = settings_for(declared, "bot1")
    assert found is not None
    assert found.acme is not None
    assert (found.names, found.acme.http_port) == (("xn--bcher-kva.example",), 8880)
    assert "of the provider" not in repr(found)


@pytest.mark.parametrize("mode", ["own-ca", "self-signed"])
@pytest.mark.parametrize("name", ["bot.example.com", "10.0.0.1"])
def test_strict_client_accepts_an_issued_certificate(mode: str, name: str, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    authority = new_authority("test", now) if mode == "own-ca" else None
    pair = new_certificate(WANTED, authority, now)
    chain = pair.certificate_pem + (authority.certificate_pem if authority else b"")
    (tmp_path / "chain").write_bytes(chain)
    (tmp_path / "key").write_bytes(pair.key_pem)
    (tmp_path / "trusted").write_bytes((authority or pair).certificate_pem)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(tmp_path / "chain", tmp_path / "key")
    client = ssl.create_default_context(cafile=str(tmp_path / "trusted"))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    shake_hands(server, client, name)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(server, client, "other.example.com")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(server, ssl.create_default_context(), name)


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> None:
    here, there = socket.socketpair()

    def serve() -> None:
        try:
            server.wrap_socket(there, server_side=True).close()
        except (ssl.SSLError, OSError):
            there.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        client.wrap_socket(here, server_hostname=name).close()
    finally:
        here.close()
        thread.join()


def test_repr_does_not_show_the_key() -> None:
    assert "KEY" not in repr(OWN)
    assert "BEGIN" not in repr(OWN)


def test_settings_name_hosts_with_nginx_only() -> None:
    declared = inventory({"bot1": ["runtime"], "web1": ["nginx"]})
    assert settings_for(declared, "bot1") is None
    web = settings_for(declared, "web1")
    assert web is not None
    assert web.names == ("10.0.0.2",)
    named = settings_for(inventory(tls={"names": ["xn--bcher-kva.Example", "2001:0DB8::1"]}), "bot1")
    assert named is not None
    assert named.names == ("xn--bcher-kva.example", "2001:db8::1")
    assert canonical("BOT.example.COM") == "bot.example.com"


def test_longest_project_name_fits_the_authority_name() -> None:
    longest = inventory(project="a" * 40).project
    assert authority_name(longest).rfc4514_string() == f"CN={longest} certificate authority"
