"""Derive the services' passwords from the one of the inventory. Pure.

Users keep one secret instead of six, and none of those on a host leads back to it or to another
(HKDF, RFC 5869, section 3.1). A new `logs.password` changes them all.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import SecretStr

BYTES = 32


def derived(password: SecretStr, project: str, purpose: str) -> SecretStr:
    """Return 43 characters of A-Z a-z 0-9 - _, the same on every laptop for the same password and project."""
    kdf = HKDF(algorithm=SHA256(), length=BYTES, salt=project.encode(), info=f"clawd logs {purpose}".encode())
    key = kdf.derive(password.get_secret_value().encode())
    return SecretStr(urlsafe_b64encode(key).decode().rstrip("="))
