"""Which host keys are trusted: files in the format of `known_hosts`, read as OpenSSH reads them.

The format is that of sshd(8), section SSH_KNOWN_HOSTS FILE FORMAT: names or patterns (`*`, `?`, `!`), hashed
names, `[host]:port`, `@cert-authority` and `@revoked`. A line that cannot be read is kept with its place and
the reason, and changes nothing about the others.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    SSHCertificate,
    SSHCertificateType,
    load_ssh_public_identity,
)

SSH_PORT = 22


class Marker(Enum):
    """The marker of a line."""

    KNOWN = ""
    AUTHORITY = "@cert-authority"
    REVOKED = "@revoked"


@dataclass(frozen=True, slots=True)
class KnownHostsLine:
    """One line that could be read. `key` is the public key in SSH's binary form."""

    marker: Marker
    names: tuple[str, ...]
    kind: str
    key: bytes
    place: str
    """`file:line`, or another place of the key."""

    def is_about(self, name: str) -> bool:
        """Return whether the line is about a host that goes by `name`."""
        name, found = name.lower(), False
        for pattern in self.names:
            if pattern.startswith("|"):
                found = found or _is_hash_of(name, pattern)
            elif pattern.startswith("!"):
                if _matches(pattern[1:], name):
                    return False
            else:
                found = found or _matches(pattern, name)
        return found


@dataclass(frozen=True, slots=True)
class KnownHostsProblem:
    """A line or a whole file that cannot be read."""

    place: str
    problem: str

    def __str__(self) -> str:
        return f"{self.place}: {self.problem}"


class Trust(Enum):
    """The trust in the key that a host presents."""

    TRUSTED = "trusted"
    UNKNOWN = "unknown"
    CHANGED = "changed"
    REVOKED = "revoked"
    BAD_CERTIFICATE = "bad certificate"


@dataclass(frozen=True, slots=True)
class HostKeyVerdict:
    """The trust in a host's key; `place` is the line that decides, `reason` why it is not trusted."""

    trust: Trust
    place: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class KnownHosts:
    """The keys of several files, in order."""

    entries: tuple[KnownHostsLine, ...] = ()
    unreadable: tuple[KnownHostsProblem, ...] = ()

    def __add__(self, other: KnownHosts) -> KnownHosts:
        return KnownHosts(self.entries + other.entries, self.unreadable + other.unreadable)

    def with_declared(self, address: str, port: int, key: str, place: str) -> KnownHosts:
        """Return these, with `key` (`TYPE BASE64`) as the only one of a host. Revoked keys stay revoked."""
        name = name_of(address, port)
        kind, encoded = key.split()[:2]
        declared = KnownHostsLine(Marker.KNOWN, (name,), kind, _key(kind, encoded), place)
        kept = tuple(
            entry
            for entry in self.entries
            if entry.marker is Marker.REVOKED
            or not any(entry.is_about(each) for each in names_of(address, port))
        )
        return KnownHosts((declared, *kept), self.unreadable)

    def kinds(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the types of keys known of a host, in order; a server is asked for these first."""
        for name in names:
            found = [e.kind for e in self.entries if e.marker is Marker.KNOWN and e.is_about(name)]
            if found:
                return tuple(dict.fromkeys(found))
        return ()

    def has_authority(self, names: Sequence[str]) -> bool:
        """Return whether a certificate of a host could be trusted."""
        return any(True for _ in self._about(Marker.AUTHORITY, names))

    def judge(self, names: Sequence[str], key: bytes, certificate: bytes | None = None) -> HostKeyVerdict:
        """Return whether a host that goes by `names` is trusted with `key`, or a certificate of it.

        Later names count only where nothing is known of the earlier ones, as ssh(1) looks a host on another
        port up without the port at last.
        """
        signed = _read_certificate(certificate) if certificate else None
        signer = _signer(signed) if signed else None
        for entry in self._about(Marker.REVOKED, names):
            if entry.key in (key, signer):
                return HostKeyVerdict(Trust.REVOKED, entry.place)
        for entry in self._about(Marker.AUTHORITY, names):
            if signed and entry.key == signer:
                problem = _problem_of(signed, names)
                trust = Trust.BAD_CERTIFICATE if problem else Trust.TRUSTED
                return HostKeyVerdict(trust, entry.place, problem)
        for name in names:
            known = [e for e in self.entries if e.marker is Marker.KNOWN and e.is_about(name)]
            for entry in known:
                if entry.key == key:
                    return HostKeyVerdict(Trust.TRUSTED, entry.place)
            if known:
                return HostKeyVerdict(Trust.CHANGED, known[0].place)
        return HostKeyVerdict(Trust.UNKNOWN)

    def of_other_types(self, names: Sequence[str], key: bytes) -> tuple[KnownHostsLine, ...]:
        """Return what is known of a host where nothing known is of the type of `key`, which it shows.

        It may hold one of these, too. Where a key of that type is known, another one is never explained so.
        """
        shown = next(_strings(key), b"").decode(errors="replace")
        for name in names:
            known = [e for e in self.entries if e.marker is Marker.KNOWN and e.is_about(name)]
            if known:
                revoked = {entry.key for entry in self._about(Marker.REVOKED, names)}
                if any(entry.kind == shown for entry in known):
                    return ()
                return tuple(entry for entry in known if entry.key not in revoked)
        return ()

    def _about(self, marker: Marker, names: Sequence[str]) -> Iterator[KnownHostsLine]:
        for entry in self.entries:
            if entry.marker is marker and any(entry.is_about(name) for name in names):
                yield entry


def name_of(address: str, port: int) -> str:
    """Return what `known_hosts` calls a host on `port` (the form `[address]:port` unless it is 22)."""
    return address if port == SSH_PORT else f"[{address}]:{port}"


def names_of(address: str, port: int) -> tuple[str, ...]:
    """Return the names under which a host is looked up, one after the other."""
    return tuple(dict.fromkeys((name_of(address, port), address)))


def read_files(files: Iterable[Path]) -> KnownHosts:
    """Read files that exist; what cannot be read is named in the result."""
    found = KnownHosts()
    for file in dict.fromkeys(files):
        try:
            content = file.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            found += KnownHosts((), (KnownHostsProblem(str(file), error.strerror or str(error)),))
            continue
        found += read_lines(content, str(file))
    return found


def read_lines(content: bytes, file: str) -> KnownHosts:
    """Read the content of a file; `file` names it in places."""
    entries, unreadable = [], []
    for number, raw in enumerate(content.split(b"\n"), 1):
        line = raw.strip(b" \t\r\0")
        if not line or line.startswith(b"#"):
            continue
        place = f"{file}:{number}"
        try:
            entries.append(_entry(line.decode("utf-8", errors="replace"), place))
        except ValueError as problem:
            unreadable.append(KnownHostsProblem(place, str(problem)))
    return KnownHosts(tuple(entries), tuple(unreadable))


def _entry(line: str, place: str) -> KnownHostsLine:
    fields = line.split()
    marker = Marker.KNOWN
    if fields[0].startswith("@"):
        try:
            marker = Marker(fields.pop(0))
        except ValueError:
            raise ValueError(f"unknown marker {line.split(maxsplit=1)[0]}") from None
    if len(fields) < 3:
        raise ValueError("the line is truncated: it has no names, type and key")
    names, kind, encoded = fields[:3]
    if kind.isdigit():
        raise ValueError("a key of SSH protocol 1")
    return KnownHostsLine(marker, tuple(filter(None, names.split(","))), kind, _key(kind, encoded), place)


def _key(kind: str, encoded: str) -> bytes:
    try:
        key = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("the key is not base64, or truncated") from None
    parts = list(_strings(key))
    if not parts or len(parts) < 2:
        raise ValueError("the key is truncated")
    if parts[0] != kind.encode(errors="replace"):
        raise ValueError(f"the line says {kind}, and its key is another type's")
    return key


def _strings(data: bytes) -> Iterator[bytes]:
    """Yield the length-prefixed strings that a key consists of (RFC 4251, section 5)."""
    at = 0
    while at < len(data):
        if len(data) - at < 4:
            raise ValueError("the key is truncated")
        (length,) = struct.unpack_from(">I", data, at)
        if length > len(data) - at - 4:
            raise ValueError("the key is truncated")
        yield data[at + 4 : at + 4 + length]
        at += 4 + length


def _matches(pattern: str, name: str) -> bool:
    """Return whether `name` matches a pattern of ssh_config(5): `*` and `?` alone are special."""
    expression = "".join({"*": ".*", "?": "."}.get(c, re.escape(c)) for c in pattern.lower())
    return re.fullmatch(expression, name, re.DOTALL) is not None


def _is_hash_of(name: str, hashed: str) -> bool:
    try:
        _, version, salt, digest = hashed.split("|")
        made = hmac.new(base64.b64decode(salt, validate=True), name.encode(), hashlib.sha1).digest()
        return version == "1" and hmac.compare_digest(made, base64.b64decode(digest, validate=True))
    except ValueError:
        return False


def _read_certificate(blob: bytes) -> SSHCertificate | None:
    try:
        kind = next(_strings(blob), b"")
        read = load_ssh_public_identity(kind + b" " + base64.b64encode(blob))
    except (ValueError, KeyError, UnsupportedAlgorithm):
        return None
    return read if isinstance(read, SSHCertificate) else None


def _signer(certificate: SSHCertificate) -> bytes:
    line = certificate.signature_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return base64.b64decode(line.split()[1])


def _problem_of(certificate: SSHCertificate, names: Sequence[str]) -> str:
    """Return why a certificate is not good for a host; empty when it is (PROTOCOL.certkeys of OpenSSH)."""
    try:
        certificate.verify_cert_signature()
    except InvalidSignature:
        return "its signature is wrong"
    now = time.time()
    if certificate.type is not SSHCertificateType.HOST:
        return "it is a person's certificate, not a host's"
    if certificate.critical_options:
        return "it has critical options, which no host's certificate may have"
    if not certificate.valid_after <= now < certificate.valid_before:
        return "it has expired, or is not valid yet"
    plain = names[-1].lower().encode()
    principals = certificate.valid_principals
    if principals and not any(_matches(p.decode(errors="replace"), plain.decode()) for p in principals):
        named = ", ".join(p.decode(errors="replace") for p in principals)
        return f"it is for {named}"
    return ""
