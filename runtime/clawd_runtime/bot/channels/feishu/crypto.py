"""Signature and encryption of Feishu's events (open platform, "Encrypt Key").

Every failed check raises `Unauthentic`. The sender must not be able to distinguish the reasons: a response
that shows whether the padding or the token is wrong is a padding oracle, which decrypts for an attacker.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from clawd_runtime.bot.foreign_json import ForeignJsonError, read_json

BLOCK_BYTES = 16
# How far Feishu's clock may be ahead of the local one.
CLOCK_DIFFERENCE = 300.0
TIMESTAMP = "X-Lark-Request-Timestamp"
NONCE = "X-Lark-Request-Nonce"
SIGNATURE = "X-Lark-Signature"
SECONDS = re.compile(r"[0-9]{1,12}")


class Unauthentic(Exception):
    """A request that Feishu did not send. `kind` has few values, `detail` is for the log only."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind = kind


def is_signed(headers: Mapping[str, str]) -> bool:
    """Return whether any of the three headers of a signature is present."""
    return any(name in headers for name in (TIMESTAMP, NONCE, SIGNATURE))


def verify_signature(
    encrypt_key: str, headers: Mapping[str, str], body: bytes, *, now: float, max_age: float
) -> None:
    """Raise `Unauthentic` unless the raw `body` has a valid signature, at most `max_age` seconds old."""
    timestamp, nonce, given = (headers.get(name, "") for name in (TIMESTAMP, NONCE, SIGNATURE))
    if not (timestamp and nonce and given):
        raise Unauthentic("missing header of the signature")
    expected = hashlib.sha256(f"{timestamp}{nonce}{encrypt_key}".encode() + body).hexdigest()
    if not same(expected, given.lower()):
        raise Unauthentic("wrong signature")
    if not SECONDS.fullmatch(timestamp):
        raise Unauthentic("timestamp is not a number")
    age = now - int(timestamp)
    if not -CLOCK_DIFFERENCE <= age <= max_age:
        raise Unauthentic("signature too old, or from the future", f"age {age:.0f} s")


def open_envelope(encrypt_key: str, body: bytes) -> dict[str, Any]:
    """Return the event within `{"encrypt": "…"}`; raise `Unauthentic` if the body is not encrypted.

    Raise `ForeignJsonError` if the decrypted content, which is from Feishu if it is signed, is not a JSON
    object.
    """
    sealed = _object(body).get("encrypt")
    if not isinstance(sealed, str):
        raise Unauthentic("event not encrypted")
    try:
        ciphertext = base64.b64decode(sealed, validate=True)
    except (binascii.Error, ValueError):
        raise Unauthentic("ciphertext is not base64") from None
    event = read_json(decrypt(encrypt_key, ciphertext))
    if not isinstance(event, dict):
        raise ForeignJsonError("event is not a JSON object")
    return event


def decrypt(encrypt_key: str, ciphertext: bytes) -> bytes:
    """Decrypt AES-256-CBC; the key is the SHA-256 of `encrypt_key`, with a leading IV and PKCS#7 padding."""
    vector, blocks = ciphertext[:BLOCK_BYTES], ciphertext[BLOCK_BYTES:]
    if not blocks or len(blocks) % BLOCK_BYTES:
        raise Unauthentic("ciphertext is not a whole number of blocks")
    key = hashlib.sha256(encrypt_key.encode()).digest()
    decryptor = Cipher(algorithms.AES(key), modes.CBC(vector)).decryptor()
    unpadder = padding.PKCS7(8 * BLOCK_BYTES).unpadder()
    try:
        padded = decryptor.update(blocks) + decryptor.finalize()
        return unpadder.update(padded) + unpadder.finalize()
    except ValueError:
        raise Unauthentic("wrong padding") from None


def same(expected: str, given: object) -> bool:
    """Return whether `given` is the string `expected`, compared in constant time."""
    return isinstance(given, str) and hmac.compare_digest(expected.encode(), given.encode("utf-8", "replace"))


def _object(raw: bytes) -> dict[str, Any]:
    try:
        parsed = read_json(raw)
    except ForeignJsonError:
        raise Unauthentic("body is not JSON") from None
    if not isinstance(parsed, dict):
        raise Unauthentic("body is not a JSON object")
    return parsed
