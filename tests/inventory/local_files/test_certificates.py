from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from deploys.tls.certificate import KeyPair, new_authority, new_certificate
from deploys.tls.settings import TlsSettings
from inventory.local_files.certificates import provided
from inventory.model import Inventory

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
MODEL = {"default": {"engine": "openai-compatible", "endpoint": "https://models.example.com/v1"}}
AUTHORITY, OTHER_AUTHORITY = new_authority("a", NOW), new_authority("b", NOW)


def made(*names: str) -> KeyPair:
    return new_certificate(TlsSettings(names=names, lifetime_days=90), AUTHORITY, NOW)


ONE, OTHER = made("bot.example.com", "10.0.0.1"), made("bot.example.com")
LOCKED = ONE.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"word"))


def problems(
    certificate: bytes = ONE.certificate_pem,
    key: bytes = ONE.key_pem,
    names: tuple[str, ...] = ("bot.example.com",),
    now: datetime = NOW,
    **tls: Any,
) -> list[str]:
    pair = {"certificate": certificate.decode(), "key": key.decode()}
    declared = Inventory.model_validate(
        {
            "hosts": {"bot1": {"address": "10.0.0.1"}},
            "models": MODEL,
            "tls": {"mode": "provided", "names": names, "provided": pair, **tls},
        }
    )
    found = list(provided(declared, now))
    assert not any("PRIVATE" in finding.problem + finding.advice for finding in found)
    return [finding.problem for finding in found]


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"certificate": ONE.certificate_pem + AUTHORITY.certificate_pem},
        {"names": ()},
        {"names": ("BOT.example.com", "10.0.0.1")},
        {"certificate": b"nonsense", "mode": "own-ca"},
    ],
)
def test_usable_certificates_are_accepted(given: dict[str, Any]) -> None:
    assert problems(**given) == []


def test_wildcard_covers_one_label() -> None:
    pair = made("*.example.com")
    given: dict[str, Any] = {"certificate": pair.certificate_pem, "key": pair.key_pem}
    assert problems(**given) == []
    assert problems(**given, names=("a.b.example.com",)) == [
        "the provided certificate does not cover a.b.example.com"
    ]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"certificate": b"nonsense"}, "not a certificate in PEM"),
        ({"key": b"nonsense"}, "not a private key in PEM"),
        ({"key": LOCKED}, "has a passphrase"),
        ({"key": OTHER.key_pem}, "does not belong to the certificate"),
        ({"now": NOW + timedelta(days=91)}, "expired on 2027-02-20"),
        ({"now": NOW - timedelta(days=1)}, "not valid before"),
        ({"names": ("other.example.com",)}, "does not cover other.example.com"),
        ({"names": ("10.0.0.2",)}, "does not cover 10.0.0.2"),
        ({"certificate": ONE.certificate_pem + OTHER_AUTHORITY.certificate_pem}, "is not its issuer"),
    ],
)
def test_unusable_certificates_are_refused(given: dict[str, Any], problem: str) -> None:
    (found,) = problems(**given)
    assert problem in found
