"""Whether single values say something that can be: host names, SSH keys, sizes, time zones.

Each check returns what is wrong and what would be right, or None.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from functools import cache
from ipaddress import ip_address
from urllib.parse import urlsplit
from zoneinfo import available_timezones

from inventory.mistakes import nearest, shown

Verdict = tuple[str, str] | None
"""What is wrong with a value, and advice."""

SSH_KEY_TYPES = (
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)

_LABEL = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)")
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+")
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def size_in_bytes(size: str) -> int:
    """Bytes of a size such as `400M`; K, M and G are powers of 1024, as systemd has them."""
    return int(size[:-1]) * _UNITS[size[-1]]


def is_address(text: str) -> bool:
    """Whether `text` is an IP address."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def is_host_name(text: str) -> bool:
    """Whether `text` is a host name (RFC 1123), with or without domain."""
    name = text.removesuffix(".")
    labels = name.split(".")
    return len(name) <= 253 and all(map(_LABEL.fullmatch, labels)) and not labels[-1].isdigit()


def check_address(text: str) -> Verdict:
    """An address to reach a host by."""
    if is_address(text) or is_host_name(text):
        return None
    if "@" in text:
        return f"{shown(text)} is not an address", "write the login as `user:` and the address without it"
    if text.startswith("["):
        return (
            f"{shown(text)} is not an address",
            "write an IPv6 address without brackets, the port as `port:`",
        )
    if re.search(r":\d+$", text):
        return f"{shown(text)} is not an address", "write the port as `port:` and the address without it"
    return f"{shown(text)} is not an address", "write an IP address or a host name"


def check_certificate_name(text: str) -> Verdict:
    """A name of a certificate: host name, `*.domain` or IP address."""
    if is_address(text) or is_host_name(text.removeprefix("*.")):
        return None
    return (
        f"{shown(text)} cannot stand in a certificate",
        "write a host name, `*.example.com` or an IP address",
    )


def check_server(text: str, ending_before: str = "") -> Verdict:
    """The address of an HTTP server. `ending_before` is a path that the caller adds to it."""
    try:
        parts = urlsplit(text)
        complete = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        complete = False
    if not complete or re.search(r"\s", text):
        return f"{shown(text)} is not the address of a server", "write https://NAME or https://NAME:PORT/path"
    if parts.username is not None:
        return (
            "this address has a login in it",
            "remove the part before `@`; secrets have fields of their own",
        )
    if ending_before and parts.path.rstrip("/").endswith(ending_before):
        return f"this address ends in {ending_before}, which is added by itself", f"remove {ending_before}"
    return None


def check_time_zone(text: str) -> Verdict:
    """An IANA zone name. A machine without zone data lets everything pass; the host checks again."""
    zones = _zones()
    if not zones or text in zones:
        return None
    advice = nearest(text, sorted(zones))
    if not advice.startswith("did"):
        advice = "write an IANA name such as Asia/Shanghai or Etc/UTC"
    return f"there is no time zone {shown(text)}", advice


def check_package(text: str) -> Verdict:
    """The name of a Debian package."""
    if _PACKAGE.fullmatch(text):
        return None
    return (
        f"{shown(text)} is not the name of a Debian package",
        "write the name alone, as `apt-get install` takes it",
    )


def check_public_key(text: str) -> Verdict:
    """An SSH public key as `ssh-keygen` prints it (RFC 4253, section 6.6); its content is never shown."""
    if "PRIVATE KEY" in text:
        return "this is a private key", "replace this key pair, and write the line of the .pub file here"
    kind, _, rest = text.strip().partition(" ")
    if "\n" in text.strip():
        return "this is more than one line", "write one public key an item"
    if kind not in SSH_KEY_TYPES:
        return (
            "this is not an SSH public key",
            f"write the whole line of a .pub file: `{SSH_KEY_TYPES[0]} AAAA…`",
        )
    encoded = rest.strip().split(" ")[0]
    try:
        fields = list(_fields(base64.b64decode(encoded, validate=True)))
    except (binascii.Error, ValueError):
        fields = []
    if (
        not fields
        or fields[0] != kind.encode()
        or (kind == "ssh-ed25519" and [len(f) for f in fields[1:]] != [32])
    ):
        return "this SSH public key is damaged", "copy the whole line of the .pub file again"
    return None


def _fields(blob: bytes) -> Iterator[bytes]:
    """The length-prefixed strings of an SSH key; raises ValueError when the last is cut off."""
    while blob:
        length = int.from_bytes(blob[:4], "big")
        if len(blob) < 4 + length:
            raise ValueError("truncated")
        yield blob[4 : 4 + length]
        blob = blob[4 + length :]


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())
