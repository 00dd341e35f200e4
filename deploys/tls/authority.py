"""The project's own certificate authority, and the certificates that the laptop trusts.

Files in the project's state folder:

<state folder>/ca/ca.key        0600   signs; never leaves the laptop
<state folder>/ca/ca.key.age           the same, encrypted to the recipients, where there are any
<state folder>/ca/ca.pem        what clients trust
<state folder>/tls/<host>.pem   a host's self-signed certificate, as read over SSH
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from deploys.tls.certificate import KeyPair, covers, new_authority, widened
from inventory.errors import ClawdError, SecretError
from inventory.secrets import decrypt, encrypt, own_identities, own_recipients
from inventory.sections.tls import Tls
from inventory.state import make_private

KEY = "ca.key"
ENCRYPTED = "ca.key.age"


def trusted_certificate(state_folder: Path, tls: Tls, host: str) -> Path | None:
    """Return the PEM file that verifies the certificate of `host`; `None` when public authorities do.

    Raises `ClawdError` while the file does not exist.
    """
    if tls.mode == "provided":
        return None
    if tls.mode == "acme":
        return tls.acme.authority
    own_ca = tls.mode == "own-ca"
    path = _folder(state_folder) / "ca.pem" if own_ca else _pinned(state_folder, host)
    try:
        there = path.is_file()
    except PermissionError as error:
        raise ClawdError(
            f"the certificate of {host} cannot be checked: you may not read {path}",
            advice=f"another user ran `up`: take the folder over (`sudo chown -R $USER {state_folder}`)",
        ) from error
    if not there:
        raise ClawdError(
            f"the certificate of {host} cannot be checked: {path} does not exist",
            advice="run `clawd-provision up` from here, or copy the folder .clawd from where it ran",
        )
    return path


def remember(state_folder: Path, host: str, chain: bytes) -> None:
    """Store the certificate of `host` as read over SSH."""
    path = _pinned(state_folder, host)
    if not path.is_file() or path.read_bytes() != chain:
        make_private(state_folder)
        path.parent.mkdir(exist_ok=True)
        # A unique name: another run may be storing the same certificate.
        with tempfile.TemporaryDirectory(prefix=".new-", dir=path.parent) as folder:
            fresh = Path(folder) / path.name
            fresh.write_bytes(chain)
            fresh.replace(path)


def authority_certificate(state_folder: Path) -> x509.Certificate | None:
    """Return the authority's certificate; `None` when there is no authority yet.

    Raises `ClawdError` when it cannot be read.
    """
    path = _folder(state_folder) / "ca.pem"
    return _certificate(path) if path.is_file() else None


def authority(
    state_folder: Path, project: str, lifetime: timedelta, now: datetime, names: Sequence[str] = ()
) -> KeyPair:
    """Return the project's authority, created on first use.

    With `names` a new one may sign only for these, and one that may not sign for all of them is renewed with
    the same key. One that may sign for any name, as earlier versions created, stays as it is. An unencrypted
    key is encrypted as soon as there are recipients.

    Raises `ClawdError` when its files cannot be read, or it expires within `lifetime` from `now`.
    """
    folder = _folder(state_folder)
    if not folder.exists():
        _create(folder, new_authority(project, now, names), _recipients(state_folder))
    found = _read(folder)
    if found.certificate.not_valid_after_utc < now + lifetime:
        raise ClawdError(
            f"the certificate authority in {folder} ends on {found.certificate.not_valid_after_utc:%Y-%m-%d}",
            advice=f"rename it to {folder.name}.old: `up` makes a new one, whose ca.pem all clients need",
        )
    if (folder / KEY).is_file() and (recipients := _recipients(state_folder)):
        _write(folder / ENCRYPTED, encrypt(found.key_pem.decode(), recipients).encode())
        (folder / KEY).unlink()
    if not covers(found.certificate, names):
        found = widened(found, names)
        _write(folder / "ca.pem", found.certificate_pem, mode=0o644)
    return found


def known_authorities(state_folder: Path) -> tuple[x509.Certificate, ...]:
    """Return the certificates of the authority and of its renamed predecessors: `ca`, `ca.old`, ….

    Raises `ClawdError` for one that cannot be read.
    """
    return tuple(map(_certificate, sorted(state_folder.glob("ca*/ca.pem"))))


def former_authorities(state_folder: Path) -> tuple[x509.Certificate, ...]:
    """Return the certificates of the renamed predecessors of the authority: `ca.old`, ….

    Raises `ClawdError` for one that cannot be read.
    """
    current = _folder(state_folder)
    paths = sorted(path for path in state_folder.glob("ca*/ca.pem") if path.parent != current)
    return tuple(map(_certificate, paths))


def _certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ClawdError(f"{path} cannot be read: {error}", advice="restore it from a copy") from error


def unencrypted_key(state_folder: Path) -> Path | None:
    """Return the path of the unencrypted key, whether it exists or not; `None` when the key is encrypted."""
    folder = _folder(state_folder)
    if (folder / ENCRYPTED).is_file() or _recipients(state_folder):
        return None
    return folder / KEY


def _read(folder: Path) -> KeyPair:
    try:
        certificate = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
        key = serialization.load_pem_private_key(_key_pem(folder), password=None)
    except FileNotFoundError as error:
        raise ClawdError(
            f"the certificate authority in {folder} is not complete: {Path(error.filename).name} is missing",
            advice=f"copy {folder} from the computer that made it; or rename it to {folder.name}.old, and "
            "`up` makes a new authority and signs everything again",
        ) from error
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ClawdError(
            f"the certificate authority in {folder} cannot be read: {error}",
            advice=f"restore it from a copy; or rename it to {folder.name}.old, and `up` makes a new one",
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise ClawdError(
            f"in {folder}, the key does not belong to ca.pem",
            advice=f"restore them from a copy; or rename it to {folder.name}.old, and `up` makes a new one",
        )
    return KeyPair(certificate, key)


def _key_pem(folder: Path) -> bytes:
    plain, encrypted = folder / KEY, folder / ENCRYPTED
    if plain.is_file() or not encrypted.is_file():
        content = plain.read_bytes()
        if plain.stat().st_mode & 0o077:
            raise ClawdError(f"{plain} is open to others than its owner", advice=f"`chmod 600 {plain}`")
        return content
    try:
        return decrypt(encrypted.read_text(encoding="ascii"), own_identities()).encode()
    except SecretError as error:
        raise ClawdError(
            f"{encrypted} cannot be decrypted here: {error.message}",
            advice="set CLAWD_AGE_KEY_FILE to a key of one of the recipients it was encrypted to",
        ) from error


def _recipients(state_folder: Path) -> tuple[str, ...]:
    """Return the recipients of the encrypted key; none when the laptop could not decrypt it again."""
    identities = own_identities()
    recipients = own_recipients(state_folder.parent.parent)
    if not identities or not recipients:
        return ()
    try:
        decrypt(encrypt("readable here", recipients), identities)
    except SecretError:
        return ()
    return recipients


def _create(folder: Path, made: KeyPair, recipients: Sequence[str]) -> None:
    """Put a new authority in place atomically; one that another process created in the meantime stays."""
    make_private(folder.parent)
    with tempfile.TemporaryDirectory(prefix=".ca-", dir=folder.parent) as name:
        fresh = Path(name) / "ca"
        fresh.mkdir(mode=0o700)
        _write(fresh / "ca.pem", made.certificate_pem, mode=0o644)
        if recipients:
            _write(fresh / ENCRYPTED, encrypt(made.key_pem.decode(), recipients).encode())
        else:
            _write(fresh / KEY, made.key_pem)
        with contextlib.suppress(OSError):
            fresh.rename(folder)


def _write(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Write a file atomically, at no time with wider permissions than `mode`."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def _folder(state_folder: Path) -> Path:
    return state_folder / "ca"


def _pinned(state_folder: Path, host: str) -> Path:
    return state_folder / "tls" / f"{host}.pem"
