"""The console's tokens: JWTs signed by HMAC-SHA256 (RFC 7519; RFC 7515, A.1), and no others.

Read here, because a library for every kind of token loads one for every kind of key: 8 MB of the bot's
memory for one call of `hmac`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import Any

LONGEST_TOKEN = 8192
LONGEST_USER = 128
LONGEST_ID = 128
FURTHEST = 1e12
# A token proves who asks; one that lives longer is a password that is never changed.
LONGEST_LIFE = 24 * 3600.0


class InvalidToken(Exception):
    """No token of ours, or not valid now. The text is for tests and logs, not for who sent it."""


@dataclass(frozen=True, slots=True)
class Token:
    """What a token says: the user, its id (unique for that user), and when it expires (seconds)."""

    user: str
    id: str
    expires_at: float


def token_of(token: str, secret: bytes, now: float) -> Token:
    """Return what a token says, at the time `now` in seconds since the epoch.

    It must have begun (`nbf`, `iat`) and end (`exp`) within `LONGEST_LIFE` of that, have an id of its own
    (`jti`), and be for nobody in particular (no `aud`). Raises `InvalidToken`.
    """
    if len(token) > LONGEST_TOKEN:
        raise InvalidToken("the token is too long")
    signed, _, signature = token.rpartition(".")
    header, separator, payload = signed.partition(".")
    if not separator or "." in payload:
        raise InvalidToken("a token has three parts")
    made = hmac.new(secret, signed.encode("utf-8", "replace"), hashlib.sha256).digest()
    if not hmac.compare_digest(made, _decoded(signature)):
        raise InvalidToken("the signature does not hold")
    kind = _object(header)
    # `crit` names extensions that change what the rest means; none is known here.
    if kind.get("alg") != "HS256" or "crit" in kind:
        raise InvalidToken("the token is of another kind")
    return _checked(_object(payload), now)


def _checked(claims: dict[str, Any], now: float) -> Token:
    ends, begins = _time(claims, "exp", absent=None), _time(claims, "iat", absent=now)
    if ends <= now:
        raise InvalidToken("the token has expired")
    if max(_time(claims, "nbf", absent=now), begins) > now:
        raise InvalidToken("the token is not valid yet")
    if "aud" in claims:
        raise InvalidToken("the token is for somebody else")
    user = claims.get("sub")
    if not isinstance(user, str) or not 0 < len(user) <= LONGEST_USER:
        raise InvalidToken("the token names no user")
    if ends - begins > LONGEST_LIFE:
        raise InvalidToken("the token lives too long")
    id = claims.get("jti")
    if not isinstance(id, str) or not 0 < len(id) <= LONGEST_ID:
        raise InvalidToken("the token has no id")
    return Token(user, id, ends)


def _time(claims: dict[str, Any], name: str, *, absent: float | None) -> float:
    value = claims.get(name, absent)
    # JSON as Python reads it knows NaN and Infinity, and integers without end.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < FURTHEST:
        raise InvalidToken(f"{name} is no time")
    return value


def _object(part: str) -> dict[str, Any]:
    try:
        found = json.loads(_decoded(part))
    except (ValueError, RecursionError):
        raise InvalidToken("a part is not JSON") from None
    if not isinstance(found, dict):
        raise InvalidToken("a part is no JSON object")
    return found


def _decoded(part: str) -> bytes:
    """base64url without its padding (RFC 7515, 2)."""
    if not part.isascii() or "=" in part:
        raise InvalidToken("a part is not base64url")
    try:
        return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise InvalidToken("a part is not base64url") from None
