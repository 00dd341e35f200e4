"""PostgreSQL's verifier of a password (SCRAM-SHA-256: RFC 5802, RFC 7677), computed on the laptop.

Only the verifier goes to the database's host: it proves a password and cannot be used as one.
Passwords are ASCII, of which the preparation of RFC 4013 changes nothing.
"""

from __future__ import annotations

import hmac
import os
from base64 import b64decode, b64encode
from hashlib import pbkdf2_hmac, sha256

ITERATIONS = 4096


def verifier(password: str, *, salt: bytes | None = None, iterations: int = ITERATIONS) -> str:
    """Return `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`, as pg_authid.rolpassword has it."""
    salt = os.urandom(16) if salt is None else salt
    salted = pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    stored, server = sha256(client_key).digest(), hmac.digest(salted, b"Server Key", "sha256")
    return f"SCRAM-SHA-256${iterations}:{_text(salt)}${_text(stored)}:{_text(server)}"


def fits(password: str, head: str, digest: str) -> bool:
    """Return whether a verifier is that of `password`.

    `head` is its part up to the second `$`, `digest` the SHA-256 of the whole in hexadecimal digits.
    """
    kind, _, parameters = head.partition("$")
    iterations, _, salt = parameters.partition(":")
    if kind != "SCRAM-SHA-256" or not iterations.isdigit():
        return False
    expected = verifier(password, salt=b64decode(salt), iterations=int(iterations))
    return hmac.compare_digest(sha256(expected.encode()).hexdigest(), digest)


def _text(data: bytes) -> str:
    return b64encode(data).decode()
