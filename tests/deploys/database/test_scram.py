from __future__ import annotations

import hmac
from base64 import b64decode
from hashlib import sha256

import pytest

from deploys.database.scram import fits, verifier


def test_verifier_equals_the_example_of_rfc_7677() -> None:
    """Section 3: password `pencil`; the signature of the server proves the ServerKey, by its HMAC."""
    made = verifier("pencil", salt=b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="), iterations=4096)
    server_key = b64decode(made.rsplit(":", 1)[1])
    exchange = (
        "n=user,r=rOprNGfwEbeRWgbNEkqO,"
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,"
        "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    )
    signature = hmac.digest(server_key, exchange.encode(), "sha256")
    assert signature == b64decode("6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")


def test_verifier_fits_only_its_password() -> None:
    made = verifier("a password")
    assert made != verifier("a password"), "each has a salt of its own"
    head, digest = made.rsplit("$", 1)[0], sha256(made.encode()).hexdigest()
    assert fits("a password", head, digest)
    assert not fits("another", head, digest)
    assert not fits("a password", head, sha256(b"another").hexdigest())


@pytest.mark.parametrize("head", ["", "md5abc", "SCRAM-SHA-256$", "SCRAM-SHA-256$x:c2FsdA=="])
def test_malformed_verifier_fits_no_password(head: str) -> None:
    assert not fits("a password", head, "")
