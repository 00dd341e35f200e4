"""How Feishu proves and hides its events: signature and encryption (open platform, "Encrypt Key").

Everything that does not hold raises `Unauthentic`. To the sender all of its reasons must look alike:
a receiver that tells bad padding from a bad token decrypts for whoever asks often enough.
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

from clawd_runtime.bot.foreign_json import Unreadable, read_json

BLOCK_BYTES = 16
# So far may Feishu's clock be ahead of ours.
CLOCK_DIFFERENCE = 300.0
TIMESTAMP = "X-Lark-Request-Timestamp"
NONCE = "X-Lark-Request-Nonce"
SIGNATURE = "X-Lark-Signature"
SECONDS = re.compile(r"[0-9]{1,12}")


class Unauthentic(Exception):
    """A request that Feishu did not send. `kind` is one of few, `detail` this one's: for the log only."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind = kind


def is_signed(headers: Mapping[str, str]) -> bool:
    """Whether any of the three headers of a signature is there."""
    return any(name in headers for name in (TIMESTAMP, NONCE, SIGNATURE))


def verify_signature(
    encrypt_key: str, headers: Mapping[str, str], body: bytes, *, now: float, max_age: float
) -> None:
    """Check the signature over the raw `body`, and that it is not older than `max_age` seconds, or from the
    future.
    """
    timestamp, nonce, given = (headers.get(name, "") for name in (TIMESTAMP, NONCE, SIGNATURE))
    if not (timestamp and nonce and given):
        raise Unauthentic("a header of the signature is missing")
    made = hashlib.sha256(f"{timestamp}{nonce}{encrypt_key}".encode() + body).hexdigest()
    if not same(made, given.lower()):
        raise Unauthentic("the signature does not hold")
    if not SECONDS.fullmatch(timestamp):
        raise Unauthentic("the timestamp is no number")
    age = now - int(timestamp)
    if not -CLOCK_DIFFERENCE <= age <= max_age:
        raise Unauthentic("the signature is too old, or from the future", f"made {age:.0f} s ago")


def open_envelope(encrypt_key: str, body: bytes) -> dict[str, Any]:
    """The event within `{"encrypt": "…"}`. A body that is not encrypted is refused.

    Raises `Unreadable` when what was encrypted, and so was by Feishu if it is signed, is no JSON object.
    """
    sealed = _object(body).get("encrypt")
    if not isinstance(sealed, str):
        raise Unauthentic("the event is not encrypted")
    try:
        ciphertext = base64.b64decode(sealed, validate=True)
    except (binascii.Error, ValueError):
        raise Unauthentic("the ciphertext is not base64") from None
    event = read_json(decrypt(encrypt_key, ciphertext))
    if not isinstance(event, dict):
        raise Unreadable("the event is not a JSON object")
    return event


def decrypt(encrypt_key: str, ciphertext: bytes) -> bytes:
    """AES-256-CBC under the SHA-256 of `encrypt_key`, initial vector first, padded by PKCS#7 (strict)."""
    vector, blocks = ciphertext[:BLOCK_BYTES], ciphertext[BLOCK_BYTES:]
    if not blocks or len(blocks) % BLOCK_BYTES:
        raise Unauthentic("the ciphertext has no whole blocks")
    key = hashlib.sha256(encrypt_key.encode()).digest()
    decryptor = Cipher(algorithms.AES(key), modes.CBC(vector)).decryptor()
    unpadder = padding.PKCS7(8 * BLOCK_BYTES).unpadder()
    try:
        padded = decryptor.update(blocks) + decryptor.finalize()
        return unpadder.update(padded) + unpadder.finalize()
    except ValueError:
        raise Unauthentic("the padding is wrong") from None


def same(expected: str, given: object) -> bool:
    """Whether `given` is the string `expected`, in a time that does not tell how much of it is right."""
    return isinstance(given, str) and hmac.compare_digest(expected.encode(), given.encode("utf-8", "replace"))


def _object(raw: bytes) -> dict[str, Any]:
    try:
        parsed = read_json(raw)
    except Unreadable:
        raise Unauthentic("the body is not JSON") from None
    if not isinstance(parsed, dict):
        raise Unauthentic("the body is not a JSON object")
    return parsed
