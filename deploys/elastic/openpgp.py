"""Read which keys an OpenPGP file holds, without gpg on the laptop. Pure.

https://www.rfc-editor.org/rfc/rfc4880: armor in section 6.2, packet headers in 4.2, fingerprints in 12.2.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator

_BEGIN, _END = "-----BEGIN PGP PUBLIC KEY BLOCK-----", "-----END PGP PUBLIC KEY BLOCK-----"
_PUBLIC_KEY = 6


def fingerprints(key: bytes) -> tuple[str, ...]:
    """Return those of the primary keys in `key`, armored or not: 40 hex digits each, version 4 only.

    Raise `ValueError` when it is no OpenPGP file.
    """
    found = []
    for tag, body in _packets(_dearmored(key)):
        if tag == _PUBLIC_KEY:
            if body[:1] != b"\x04":
                raise ValueError("a key that is not of version 4")
            hashed = b"\x99" + len(body).to_bytes(2, "big") + body
            found.append(hashlib.sha1(hashed, usedforsecurity=False).hexdigest().upper())
    return tuple(found)


def _dearmored(key: bytes) -> bytes:
    if not key.lstrip().startswith(b"-----BEGIN"):
        return key
    text = key.decode("ascii", errors="replace").replace("\r\n", "\n")
    data = b""
    for block in text.split(_BEGIN)[1:]:
        lines = block.partition("\n\n")[2].partition(_END)[0].split("\n")
        try:
            data += base64.b64decode(
                "".join(line for line in lines if not line.startswith("=")), validate=True
            )
        except binascii.Error as error:
            raise ValueError("damaged armor") from error
    return data


def _packets(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position < len(data):
        header = data[position]
        if not header & 0x80:
            raise ValueError("this is not an OpenPGP file")
        if header & 0x40:
            tag = header & 0x3F
            length, start = _new_length(data, position + 1)
        else:
            tag, kind = header >> 2 & 0x0F, header & 3
            if kind == 3:
                raise ValueError("a packet without length")
            start = position + 1 + (1 << kind)
            length = int.from_bytes(data[position + 1 : start], "big")
        if start + length > len(data):
            raise ValueError("the file is cut off")
        yield tag, data[start : start + length]
        position = start + length


def _new_length(data: bytes, at: int) -> tuple[int, int]:
    """Return a length in the newer format, and where the body starts."""
    first = data[at] if at < len(data) else 255
    if first < 192:
        return first, at + 1
    if first < 224:
        return ((first - 192) << 8) + data[at + 1] + 192, at + 2
    if first == 255:
        return int.from_bytes(data[at + 1 : at + 5], "big"), at + 5
    raise ValueError("a packet in pieces")
