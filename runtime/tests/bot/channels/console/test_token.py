"""The console's tokens, as made by PyJWT and by attackers."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import jwt
import pytest

from clawd_runtime.bot.channels.console.token import ConsoleToken, InvalidToken, token_of

SECRET = b"0123456789abcdef" * 4
NOW = 1_800_000_000.0
CLAIMS: dict[str, Any] = {"sub": "ada", "exp": NOW + 60, "jti": "1"}


def signed(header: bytes, payload: bytes, secret: bytes = SECRET) -> str:
    """Return any token with a valid signature."""
    parts = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in (header, payload))
    made = hmac.new(secret, parts, hashlib.sha256).digest()
    return f"{parts.decode()}.{base64.urlsafe_b64encode(made).rstrip(b'=').decode()}"


@pytest.mark.parametrize(
    "claims",
    [
        CLAIMS,
        CLAIMS | {"exp": int(NOW) + 1},
        CLAIMS | {"nbf": NOW - 1, "iat": NOW - 1, "iss": "somebody", "jti": "1"},
        CLAIMS | {"nbf": NOW, "iat": NOW},
    ],
)
def test_tokens_of_pyjwt_are_accepted(claims: dict[str, Any]) -> None:
    assert token_of(jwt.encode(claims, SECRET, "HS256"), SECRET, NOW).user == "ada"


def test_token_has_id_and_expiry() -> None:
    token = jwt.encode(CLAIMS, SECRET, "HS256")
    assert token_of(token, SECRET, NOW) == ConsoleToken("ada", "1", NOW + 60)


def test_user_name_in_any_script() -> None:
    assert token_of(jwt.encode(CLAIMS | {"sub": "张三 😀"}, SECRET, "HS256"), SECRET, NOW).user == "张三 😀"


def test_token_of_rfc_7515() -> None:
    """RFC 7515, A.1: the signature is valid, but the claims are from 2011 and name no user."""
    key = base64.urlsafe_b64decode(
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow=="
    )
    token = (
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9"
        ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
        ".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    )
    with pytest.raises(InvalidToken, match="expired"):
        token_of(token, key, NOW)
    with pytest.raises(InvalidToken, match="without user"):
        token_of(token, key, 1_300_000_000.0)
    with pytest.raises(InvalidToken, match="signature"):
        token_of(token, SECRET, 1_300_000_000.0)


HEADER = b'{"alg":"HS256"}'
GOOD = json.dumps(CLAIMS).encode()


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": "ada"},
        {"exp": NOW + 60},
        CLAIMS | {"exp": NOW},
        CLAIMS | {"exp": str(NOW + 60)},
        CLAIMS | {"exp": True},
        CLAIMS | {"exp": None},
        CLAIMS | {"exp": float("inf")},
        CLAIMS | {"exp": float("nan")},
        CLAIMS | {"exp": 10**400},
        CLAIMS | {"nbf": NOW + 1},
        CLAIMS | {"nbf": "soon"},
        CLAIMS | {"iat": NOW + 1},
        CLAIMS | {"aud": "another service"},
        CLAIMS | {"sub": ""},
        CLAIMS | {"sub": 7},
        CLAIMS | {"sub": "x" * 129},
    ],
)
def test_invalid_claims_are_refused(claims: dict[str, Any]) -> None:
    with pytest.raises(InvalidToken):
        token_of(signed(HEADER, json.dumps(claims).encode()), SECRET, NOW)


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "...",
        "a.b",
        signed(HEADER, GOOD) + ".x",
        signed(HEADER, GOOD, b"another secret, of 32 bytes or more"),
        signed(b'{"alg":"none"}', GOOD),
        signed(b'{"alg":"none"}', GOOD).rpartition(".")[0] + ".",
        signed(b'{"alg":"HS512"}', GOOD),
        signed(b'{"alg":["HS256"]}', GOOD),
        signed(b'{"alg":"HS256","crit":["b64"],"b64":false}', GOOD),
        signed(b"[]", GOOD),
        signed(b"{", GOOD),
        signed(b"\xff", GOOD),
        signed(HEADER, b"[]"),
        signed(HEADER, b"[" * 5000),
        signed(HEADER, b""),
        signed(HEADER, GOOD) + "=",
        signed(HEADER, GOOD) + "\n",
        signed(HEADER, GOOD)[:-1],
        signed(HEADER, GOOD)[:-1] + "é",
        "é" + signed(HEADER, GOOD),
        "\ud800" + signed(HEADER, GOOD),
        signed(HEADER, json.dumps(CLAIMS | {"padding": "x" * 8192}).encode()),
        jwt.encode(CLAIMS, SECRET, "HS384"),
        jwt.encode(CLAIMS, "", "none"),
    ],
)
def test_forged_and_malformed_tokens_are_refused(token: str) -> None:
    with pytest.raises(InvalidToken):
        token_of(token, SECRET, NOW)


def test_every_changed_token_is_refused() -> None:
    token = signed(HEADER, GOOD)
    assert token_of(token, SECRET, NOW).user == "ada"
    for place in range(len(token) - 1):  # the last letter holds bits that mean nothing
        changed = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        with pytest.raises(InvalidToken):
            token_of(changed, SECRET, NOW)
