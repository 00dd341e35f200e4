"""Login to an SSH server with keys: from the configuration, the agent, or `~/.ssh`.

The order is that of ssh(1): keys of the agent that a file names, other keys of the agent (unless only named
ones may be tried), then files. The public part of a key is readable without its passphrase, so a key that the
agent holds is used through the agent.
"""

from __future__ import annotations

import base64
import io
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    SSHCertificate,
    load_pem_private_key,
    load_ssh_private_key,
    load_ssh_public_identity,
)
from paramiko.agent import AgentSSH

from provision.local.ask import SecretPrompt
from provision.ssh.config import is_there

AGENT_TIMEOUT_S = 10
_MAGIC = b"openssh-key-v1\0"
_CLASSES: tuple[tuple[Any, type[paramiko.PKey]], ...] = (
    (RSAPrivateKey, paramiko.RSAKey),
    (EllipticCurvePrivateKey, paramiko.ECDSAKey),
    (Ed25519PrivateKey, paramiko.Ed25519Key),
)


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys that a server may be offered.

    `named` are the key files; with `only_named` no other key of the agent is tried. `agent` is the path of
    the agent's socket, `passphrase` what the inventory gives for the files. `certificates` are shown with the
    key that they are for, as is `PATH-cert.pub` with the key in `PATH`.
    """

    named: tuple[Path, ...] = ()
    only_named: bool = False
    agent: str | None = None
    passphrase: str | None = None
    certificates: tuple[Path, ...] = ()


class LoginRefusedError(Exception):
    """No key was accepted. `tried` are the offered keys, `notes` the reasons why others were not offered."""

    def __init__(self, tried: Sequence[str], notes: Sequence[str], reason: str = "") -> None:
        self.tried, self.notes, self.reason = tuple(tried), tuple(notes), reason
        super().__init__(reason or "no key was accepted")


class EncryptedKeyError(Exception):
    """A key file needs a passphrase, or another one than the given."""


class UnusableKeyError(Exception):
    """A file is not a private key, or has a type that is not supported."""


def log_in(transport: paramiko.Transport, user: str, keys: Keys, ask: SecretPrompt) -> None:
    """Show the server one key after the other until it accepts one.

    Raises `LoginRefusedError`; what the connection itself raises is raised on.
    """
    tried: list[str] = []
    notes: list[str] = []
    for label, key in _shown(keys, ask, notes):
        tried.append(label)
        try:
            further = transport.auth_publickey(user, key)
        except paramiko.BadAuthenticationType as error:
            allowed = ", ".join(error.allowed_types) or "nothing"
            raise LoginRefusedError(tried, notes, f"it takes no keys, only {allowed}") from error
        except paramiko.AuthenticationException as error:
            if not transport.is_active():
                reason = f"it ended the connection after {len(tried)} keys ({error})"
                raise LoginRefusedError(tried, notes, reason) from error
            continue
        if not further:
            return
        reason = f"it asks for more than a key: {', '.join(further)}, and that is not supported"
        raise LoginRefusedError(tried, notes, reason)
    raise LoginRefusedError(tried, notes)


def _shown(keys: Keys, ask: SecretPrompt, notes: list[str]) -> Iterator[tuple[str, paramiko.PKey]]:
    """Yield each key with its name: first with each certificate for it, then without a certificate."""
    certificates: dict[bytes, list[Path]] = {}
    defaults = (path.with_name(f"{path.name}-cert.pub") for path in keys.named)
    for file in dict.fromkeys((*keys.certificates, *(path for path in defaults if path.is_file()))):
        try:
            certificates.setdefault(_certified(file), []).append(file)
        except (OSError, ValueError, UnsupportedAlgorithm) as error:
            notes.append(f"{file}: {error}")
    for label, find in _candidates(keys, ask, notes):
        key = find()
        if key is None:
            continue
        for certificate in certificates.get(_blob(key), ()):
            key.load_certificate(str(certificate))
            yield f"{label} with {certificate}", key
        key.public_blob = None
        yield label, key


def _certified(path: Path) -> bytes:
    """Return the public key that a certificate is for, in SSH's binary form.

    Raises `ValueError`, `UnsupportedAlgorithm` or OSError where it cannot be read.
    """
    try:
        identity = load_ssh_public_identity(path.read_bytes())
    except ValueError as error:
        raise ValueError("not a certificate") from error
    if not isinstance(identity, SSHCertificate):
        raise ValueError("a public key, not a certificate")
    line = identity.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return base64.b64decode(line.split()[1])


_Candidate = tuple[str, Callable[[], paramiko.PKey | None]]


def _candidates(keys: Keys, ask: SecretPrompt, notes: list[str]) -> Iterator[_Candidate]:
    held = _held_by_agent(keys.agent, notes)
    notes += [f"{path} does not exist" for path in keys.named if not is_there(path)]
    named = {path: public_part(path) for path in keys.named if is_there(path)}
    blobs = set(filter(None, named.values()))
    with_agent = [key for key in held if _blob(key) in blobs]
    for key in with_agent:
        path = next(path for path, blob in named.items() if blob == _blob(key))
        yield f"{path} (by the agent)", lambda key=key: key  # type: ignore[misc]
    if not keys.only_named:
        for key in held:
            if key not in with_agent:
                yield f"{key.comment or key.get_name()} (of the agent)", lambda key=key: key  # type: ignore[misc]
    known = {_blob(key) for key in with_agent}
    files = [path for path, blob in named.items() if blob is None or blob not in known]
    for path in sorted(files, key=is_encrypted):
        yield str(path), lambda path=path: _from_file(path, keys.passphrase, ask, notes)  # type: ignore[misc]


def _from_file(
    path: Path, passphrase: str | None, ask: SecretPrompt, notes: list[str]
) -> paramiko.PKey | None:
    if not path.is_file():
        notes.append(f"of {path} there is only the public part, and the agent does not hold the private one")
        return None
    if _is_public(path):
        notes.append(f"{path} is a public key, and the agent does not hold its private part")
        return None
    found: list[paramiko.PKey] = []

    def opens(typed: str | None) -> bool:
        try:
            found.append(read_key(path, typed))
        except EncryptedKeyError:
            return False
        return True

    try:
        if opens(None) or (passphrase is not None and opens(passphrase)):
            return found[-1]
        if passphrase is not None:
            notes.append(f"{path} is encrypted, and `ssh_key_password` does not open it")
        elif ask.secret("passphrase", f"passphrase of {path}", opens) is None:
            notes.append(f"{path} is encrypted, and the agent does not hold it")
    except (UnusableKeyError, OSError) as error:
        notes.append(f"{path}: {error}")
    return found[-1] if found else None


def read_key(path: Path, passphrase: str | None) -> paramiko.PKey:
    """Return the private key in a file (OpenSSH's form, PEM or PKCS 8).

    Raises `EncryptedKeyError` where the passphrase is missing or wrong, `UnusableKeyError`, and OSError.
    """
    data = path.read_bytes()
    if data.startswith(b"PuTTY-User-Key-File"):
        raise UnusableKeyError("a key of PuTTY; convert it (`puttygen KEY -O private-openssh -o FILE`)")
    encrypted = is_encrypted(path)
    if encrypted and not passphrase:
        raise EncryptedKeyError(str(path))
    password = passphrase.encode() if passphrase and encrypted else None
    load = load_ssh_private_key if b"BEGIN OPENSSH PRIVATE KEY" in data else load_pem_private_key
    try:
        loaded = load(data, password)
    except UnsupportedAlgorithm as error:
        raise UnusableKeyError("a key of a type that only an agent can use") from error
    except (ValueError, TypeError) as error:
        if encrypted:
            raise EncryptedKeyError(str(path)) from error
        raise UnusableKeyError("not a private key") from error
    for kind, as_paramiko in _CLASSES:
        if isinstance(loaded, kind):
            plain = loaded.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
            key: paramiko.PKey = as_paramiko.from_private_key(io.StringIO(plain))
            return key
    raise UnusableKeyError("a key of a type that OpenSSH no longer takes")


def public_part(path: Path) -> bytes | None:
    """Return the public key of a key file in SSH's binary form, without its passphrase; `None` for none.

    It stands in a private key of OpenSSH's form, in `PATH.pub`, or is the file itself.
    """
    for file in (path, path.with_name(path.name + ".pub")):
        try:
            data = file.read_bytes()
        except OSError:
            continue
        if (blob := _public_of_openssh(data) or _public_line(data)) is not None:
            return blob
    return None


def is_encrypted(path: Path) -> bool:
    """Return whether a private key file needs a passphrase."""
    try:
        data = path.read_bytes()
    except OSError:
        return False
    body = _openssh_body(data)
    if body is not None:
        return next(_strings(body[len(_MAGIC) :]), b"none") != b"none"
    return b"BEGIN ENCRYPTED PRIVATE KEY" in data or b"Proc-Type: 4,ENCRYPTED" in data


def _is_public(path: Path) -> bool:
    return _public_line(path.read_bytes()) is not None


def _public_line(data: bytes) -> bytes | None:
    fields = data.split()
    if len(fields) < 2 or not fields[0].startswith((b"ssh-", b"ecdsa-", b"sk-")):
        return None
    try:
        return base64.b64decode(fields[1], validate=True)
    except ValueError:
        return None


def _public_of_openssh(data: bytes) -> bytes | None:
    # openssh-key-v1: cipher, kdf, kdf options, number of keys, public key (OpenSSH's PROTOCOL.key).
    body = _openssh_body(data)
    if body is None:
        return None
    rest = body[len(_MAGIC) :]
    try:
        for _ in range(3):
            (length,) = struct.unpack_from(">I", rest)
            rest = rest[4 + length :]
        return next(_strings(rest[4:]), None)
    except struct.error:
        return None


def _openssh_body(data: bytes) -> bytes | None:
    begin, end = b"-----BEGIN OPENSSH PRIVATE KEY-----", b"-----END"
    if begin not in data:
        return None
    try:
        body = base64.b64decode(data.split(begin, 1)[1].split(end, 1)[0])
    except ValueError:
        return None
    return body if body.startswith(_MAGIC) else None


def _strings(data: bytes) -> Iterator[bytes]:
    at = 0
    while len(data) - at >= 4:
        (length,) = struct.unpack_from(">I", data, at)
        if length > len(data) - at - 4:
            return
        yield data[at + 4 : at + 4 + length]
        at += 4 + length


class _Agent(AgentSSH):
    """The agent at one socket; paramiko's own class supports only that of the environment."""

    def __init__(self, path: str) -> None:
        super().__init__()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(AGENT_TIMEOUT_S)
        try:
            connection.connect(path)
            self._connect(connection)  # type: ignore[attr-defined]
        except BaseException:
            connection.close()
            raise


def _held_by_agent(path: str | None, notes: list[str]) -> list[paramiko.AgentKey]:
    if not path:
        return []
    try:
        return list(_Agent(path).get_keys())
    except (OSError, paramiko.SSHException, ValueError) as error:
        notes.append(f"the agent at {path} does not answer ({error})")
        return []


def _blob(key: paramiko.PKey) -> bytes:
    return bytes(key.asbytes())
