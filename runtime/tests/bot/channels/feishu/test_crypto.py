"""Signature and encryption, compared with those of lark-oapi."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from Crypto.Cipher import AES
from hypothesis import given
from hypothesis import strategies as st
from lark_oapi.core.utils import AESCipher

from clawd_runtime.bot.channels.feishu.crypto import (
    Unauthentic,
    decrypt,
    open_envelope,
    same,
    verify_signature,
)
from clawd_runtime.bot.foreign_json import ForeignJsonError

KEYS = st.text(min_size=1, max_size=40)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def encrypted(key: str, padded: bytes, vector: bytes = bytes(range(16))) -> bytes:
    digest = hashlib.sha256(key.encode()).digest()
    return vector + AES.new(digest, AES.MODE_CBC, vector).encrypt(padded)


def padded(plain: bytes) -> bytes:
    missing = 16 - len(plain) % 16
    return plain + bytes([missing]) * missing


@given(KEYS, st.binary(max_size=200), st.binary(min_size=16, max_size=16))
def test_decryption_matches_lark(key: str, plain: bytes, vector: bytes) -> None:
    ciphertext = encrypted(key, padded(plain), vector)
    assert decrypt(key, ciphertext) == plain == AESCipher(key).decrypt(ciphertext)


@given(KEYS, st.binary(max_size=80))
def test_any_bytes_are_accepted_or_refused_like_lark(key: str, ciphertext: bytes) -> None:
    try:
        expected: bytes | None = AESCipher(key).decrypt(ciphertext)
    except ValueError:
        expected = None
    if expected is None:
        with pytest.raises(Unauthentic):
            decrypt(key, ciphertext)
    else:
        assert decrypt(key, ciphertext) == expected


@given(KEYS, st.binary(min_size=16, max_size=64).map(lambda block: block[: len(block) // 16 * 16]))
def test_whole_padding_is_checked(key: str, plain: bytes) -> None:
    """Padding is accepted or refused like in lark for any content of the last block."""
    test_any_bytes_are_accepted_or_refused_like_lark.hypothesis.inner_test(key, encrypted(key, plain))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "last",
    [bytes(15) + b"\x00", b"\x11" * 16, bytes(14) + b"\x01\x02", b"x" * 13 + b"\x03\x02\x03"],
)
def test_wrong_padding_is_refused(last: bytes) -> None:
    with pytest.raises(Unauthentic, match="padding"):
        decrypt("key", encrypted("key", b"y" * 16 + last))


@given(KEYS, st.dictionaries(st.text(), JSON, max_size=4))
def test_envelope_opens_like_lark(key: str, event: dict[str, Any]) -> None:
    sealed = base64.b64encode(encrypted(key, padded(json.dumps(event).encode()))).decode()
    body = json.dumps({"encrypt": sealed}).encode()
    assert open_envelope(key, body) == event == json.loads(AESCipher(key).decrypt_str(sealed))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"no json",
        b"[" * 100_000,
        b"\xff\xfe",
        b'{"encrypt": 7}',
        b'{"encrypt": ""}',
        b'{"encrypt": "not base64!"}',
        b'{"encrypt": "QUJD"}',
        b'{"encrypt": "\xc3\xa9"}',
        b'{"type": "url_verification", "token": "t", "challenge": "c"}',
    ],
)
def test_invalid_envelope_is_refused(body: bytes) -> None:
    with pytest.raises(Unauthentic):
        open_envelope("key", body)


def test_event_that_is_not_an_object_is_refused() -> None:
    sealed = base64.b64encode(encrypted("key", padded(b'["event"]'))).decode()
    with pytest.raises(ForeignJsonError, match="not a JSON object"):
        open_envelope("key", json.dumps({"encrypt": sealed}).encode())


def headers(body: bytes, key: str = "key", timestamp: str = "1000", nonce: str = "n") -> dict[str, str]:
    signature = hashlib.sha256((timestamp + nonce + key).encode() + body).hexdigest()
    return {
        "X-Lark-Request-Timestamp": timestamp,
        "X-Lark-Request-Nonce": nonce,
        "X-Lark-Signature": signature,
    }


@given(st.binary(max_size=100), KEYS)
def test_signature_matches_platform_formula(body: bytes, key: str) -> None:
    verify_signature(key, headers(body, key), body, now=1000.0, max_age=300.0)


@given(st.binary(min_size=1, max_size=60), st.data())
def test_changed_bit_invalidates_signature(body: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(body) * 8 - 1))
    changed = bytearray(body)
    changed[at // 8] ^= 1 << at % 8
    with pytest.raises(Unauthentic, match="wrong signature"):
        verify_signature("key", headers(body), bytes(changed), now=1000.0, max_age=300.0)


@pytest.mark.parametrize("absent", ["X-Lark-Request-Timestamp", "X-Lark-Request-Nonce", "X-Lark-Signature"])
@pytest.mark.parametrize("empty", [True, False])
def test_missing_or_empty_signature_header_is_refused(absent: str, empty: bool) -> None:
    given = headers(b"body")
    given.pop(absent)
    if empty:
        given[absent] = ""
    with pytest.raises(Unauthentic, match="missing"):
        verify_signature("key", given, b"body", now=1000.0, max_age=300.0)


@pytest.mark.parametrize(
    ("now", "accepted"), [(1000.0, True), (1300.0, True), (1301.0, False), (700.0, True), (699.0, False)]
)
def test_signature_expires(now: float, accepted: bool) -> None:
    if accepted:
        verify_signature("key", headers(b"x"), b"x", now=now, max_age=300.0)
    else:
        with pytest.raises(Unauthentic, match=r"age -?\d+ s"):
            verify_signature("key", headers(b"x"), b"x", now=now, max_age=300.0)


@pytest.mark.parametrize("timestamp", ["soon", "-1", "1e3", "١٠٠٠", "1000.5"])
def test_invalid_timestamp_is_refused(timestamp: str) -> None:
    with pytest.raises(Unauthentic, match="not a number"):
        verify_signature("key", headers(b"x", timestamp=timestamp), b"x", now=1000.0, max_age=300.0)


def test_same_accepts_only_equal_strings() -> None:
    assert same("tökén", "tökén")
    for other in ("token", "", None, 7, ["tökén"], "\ud800"):
        assert not same("tökén", other)
