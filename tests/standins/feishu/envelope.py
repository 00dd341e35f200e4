"""How the platform wraps an event: encryption and signature (page "Encrypt Key", event subscription)."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

BLOCK = 16


@dataclass(frozen=True)
class Envelope:
    """An event as it goes over the wire."""

    body: bytes
    headers: dict[str, str]


def encrypt(encrypt_key: str, plain: bytes, *, padded: bool = True) -> bytes:
    """Return initial vector and AES-256-CBC ciphertext; the key is the SHA-256 of `encrypt_key`."""
    if padded:
        padder = padding.PKCS7(8 * BLOCK).padder()
        plain = padder.update(plain) + padder.finalize()
    vector = os.urandom(BLOCK)
    key = hashlib.sha256(encrypt_key.encode()).digest()
    encryptor = Cipher(algorithms.AES(key), modes.CBC(vector)).encryptor()
    return vector + encryptor.update(plain) + encryptor.finalize()


def sealed(ciphertext: bytes) -> bytes:
    """Return the JSON body that carries a ciphertext."""
    return compact({"encrypt": base64.b64encode(ciphertext).decode()})


def compact(value: dict[str, Any]) -> bytes:
    """Return JSON without spaces, as the platform's Node.js SDK serialises it to check signatures."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def plain(event: dict[str, Any]) -> bytes:
    """Return the JSON of an event."""
    return compact(event)


def signed(encrypt_key: str, body: bytes, at: float) -> Envelope:
    """Return `body` with the headers of its signature, dated `at`."""
    timestamp, nonce = str(int(at)), secrets.token_hex(8)
    signature = hashlib.sha256(f"{timestamp}{nonce}{encrypt_key}".encode() + body).hexdigest()
    headers = {
        "X-Lark-Request-Timestamp": timestamp,
        "X-Lark-Request-Nonce": nonce,
        "X-Lark-Signature": signature,
    }
    return Envelope(body, headers)


def wrapped(encrypt_key: str, event: dict[str, Any], at: float) -> Envelope:
    """Return an event as the platform sends it; without a key it is plain and unsigned."""
    if not encrypt_key:
        return Envelope(plain(event), {})
    return signed(encrypt_key, sealed(encrypt(encrypt_key, plain(event))), at)


def forged(kind: str, encrypt_key: str, event: dict[str, Any], at: float) -> Envelope:
    """Return an event as an attacker might send it. Raise `ValueError` when `kind` is not in `FORGERIES`."""
    good = wrapped(encrypt_key, event, at)
    ciphertext = encrypt(encrypt_key, plain(event))
    if kind == "signature":
        return Envelope(good.body, good.headers | {"X-Lark-Signature": secrets.token_hex(32)})
    if kind == "unsigned":
        return Envelope(good.body, {})
    if kind == "stale":
        return signed(encrypt_key, good.body, at - 9 * 3600)
    if kind == "token":
        wrong = event | {"header": event["header"] | {"token": "guessed"}}
        return wrapped(encrypt_key, wrong, at)
    if kind == "ciphertext":
        flipped = ciphertext[:-1] + bytes([ciphertext[-1] ^ 1])
        return Envelope(sealed(flipped), good.headers)
    if kind == "ciphertext signed":
        return signed(encrypt_key, sealed(ciphertext[:-1] + bytes([ciphertext[-1] ^ 1])), at)
    if kind == "padding":
        whole = plain(event) + b" " * (-len(plain(event)) % BLOCK)
        return signed(encrypt_key, sealed(encrypt(encrypt_key, whole, padded=False)), at)
    if kind == "plain":
        return Envelope(plain(event), {})
    if kind == "plain signed":
        return signed(encrypt_key, plain(event), at)
    raise ValueError(f"no forgery is called {kind!r}; there are {', '.join(FORGERIES)}")


FORGERIES = (
    "signature",
    "unsigned",
    "stale",
    "token",
    "ciphertext",
    "ciphertext signed",
    "padding",
    "plain",
    "plain signed",
)
