"""Verification of the console's tokens: JWTs signed with HMAC-SHA256 (RFC 7519; RFC 7515, A.1) only.

A JWT library is not used: it loads support for every kind of key, which takes 8 MB of the bot's memory for
one call of `hmac`.
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
# A token with a longer lifetime would be like a password that is never changed.
LONGEST_LIFE = 24 * 3600.0


class InvalidToken(Exception):
    """A token is not ours, or not valid now. The message is for tests and logs, never for the client."""


@dataclass(frozen=True, slots=True)
class ConsoleToken:
    """The claims of a token: the user, its id (unique for that user), and its expiry (in seconds)."""

    user: str
    id: str
    expires_at: float


def token_of(token: str, secret: bytes, now: float, audience: str | None = None) -> ConsoleToken:
    """Return the claims of a token at the time `now` in seconds since the epoch.

    Raise `InvalidToken` unless the token is already valid (`nbf`, `iat`), expires (`exp`) within
    `LONGEST_LIFE` of its beginning, has an id (`jti`) and exactly this `audience` (`aud`; `None`: none).
    """
    if len(token) > LONGEST_TOKEN:
        raise InvalidToken("token too long")
    signed, _, signature = token.rpartition(".")
    header, separator, payload = signed.partition(".")
    if not separator or "." in payload:
        raise InvalidToken("token without three parts")
    expected = hmac.new(secret, signed.encode("utf-8", "replace"), hashlib.sha256).digest()
    if not hmac.compare_digest(expected, _decoded(signature)):
        raise InvalidToken("wrong signature")
    kind = _object(header)
    # `crit` names extensions that change the meaning of the token; none is supported.
    if kind.get("alg") != "HS256" or "crit" in kind:
        raise InvalidToken("token of another kind")
    return _checked(_object(payload), now, audience)


def _checked(claims: dict[str, Any], now: float, audience: str | None) -> ConsoleToken:
    ends, begins = _time(claims, "exp", absent=None), _time(claims, "iat", absent=now)
    if ends <= now:
        raise InvalidToken("token expired")
    if max(_time(claims, "nbf", absent=now), begins) > now:
        raise InvalidToken("token not valid yet")
    if claims.get("aud") != audience or ("aud" in claims and audience is None):
        raise InvalidToken("token for another audience")
    user = claims.get("sub")
    if not isinstance(user, str) or not 0 < len(user) <= LONGEST_USER:
        raise InvalidToken("token without user")
    if ends - begins > LONGEST_LIFE:
        raise InvalidToken("token lifetime too long")
    id = claims.get("jti")
    if not isinstance(id, str) or not 0 < len(id) <= LONGEST_ID:
        raise InvalidToken("token without id")
    return ConsoleToken(user, id, ends)


def _time(claims: dict[str, Any], name: str, *, absent: float | None) -> float:
    value = claims.get(name, absent)
    # Python's JSON parser accepts NaN, Infinity and integers of any size.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < FURTHEST:
        raise InvalidToken(f"{name} is not a time")
    return value


def _object(part: str) -> dict[str, Any]:
    try:
        found = json.loads(_decoded(part))
    except (ValueError, RecursionError):
        raise InvalidToken("part is not JSON") from None
    if not isinstance(found, dict):
        raise InvalidToken("part is not a JSON object")
    return found


def _decoded(part: str) -> bytes:
    """Decode base64url without padding (RFC 7515, 2)."""
    if not part.isascii() or "=" in part:
        raise InvalidToken("part is not base64url")
    try:
        return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise InvalidToken("part is not base64url") from None
