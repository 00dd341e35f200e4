"""The project's own certificate authority, and what the laptop trusts: files in the project's state folder.

<state folder>/ca/ca.key        0600   signs; never leaves the laptop
<state folder>/ca/ca.pem        what clients trust
<state folder>/tls/<host>.pem   a host's self-signed certificate, as read over SSH
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from deploys.tls.certificate import KeyPair, new_authority
from inventory.errors import ClawdError
from inventory.sections.tls import Tls


def trusted_certificate(state_folder: Path, tls: Tls, host: str) -> Path | None:
    """The PEM file that leads to the certificate of `host`; `None` when authorities that all know do.

    Raises `ClawdError` while there is none.
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
            f"{path} may not be read by you, so the certificate of {host} cannot be checked",
            advice=f"another user ran `up`: take the folder over (`sudo chown -R $USER {state_folder}`)",
        ) from error
    if not there:
        raise ClawdError(
            f"{path} does not exist, so the certificate of {host} cannot be checked",
            advice="run `clawd-provision up` from here, or copy the folder .clawd from where it ran",
        )
    return path


def remember(state_folder: Path, host: str, chain: bytes) -> None:
    """Keep the certificate that `host` was seen to have over SSH."""
    path = _pinned(state_folder, host)
    if not path.is_file() or path.read_bytes() != chain:
        state_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.parent.mkdir(exist_ok=True)
        # A name of its own: another run may be remembering the same one.
        with tempfile.TemporaryDirectory(prefix=".new-", dir=path.parent) as folder:
            fresh = Path(folder) / path.name
            fresh.write_bytes(chain)
            fresh.replace(path)


def authority_certificate(state_folder: Path) -> x509.Certificate | None:
    """The authority's certificate; `None` when there is no authority yet."""
    path = _folder(state_folder) / "ca.pem"
    return x509.load_pem_x509_certificate(path.read_bytes()) if path.is_file() else None


def authority(state_folder: Path, project: str, lifetime: timedelta, now: datetime) -> KeyPair:
    """The project's authority, made on first use.

    Raises `ClawdError` when its files cannot be read, or it ends within `lifetime` from `now`.
    """
    folder = _folder(state_folder)
    if not folder.exists():
        _create(folder, new_authority(project, now))
    try:
        certificate = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
        key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), password=None)
    except (OSError, ValueError) as error:
        raise ClawdError(
            f"the certificate authority in {folder} cannot be read: {error}",
            advice="restore it from a copy; or remove that folder, and `up` makes a new one",
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise ClawdError(
            f"in {folder}, ca.key does not belong to ca.pem",
            advice="restore them from a copy; or remove that folder, and `up` makes a new one",
        )
    if certificate.not_valid_after_utc < now + lifetime:
        raise ClawdError(
            f"the certificate authority in {folder} ends on {certificate.not_valid_after_utc:%Y-%m-%d}",
            advice="remove that folder: `up` makes a new one, whose ca.pem all clients then need",
        )
    return KeyPair(certificate, key)


def _create(folder: Path, made: KeyPair) -> None:
    """Put a new authority in place whole; one that another process made meanwhile stays."""
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".ca-", dir=folder.parent) as name:
        fresh = Path(name) / "ca"
        fresh.mkdir(mode=0o700)
        (fresh / "ca.pem").write_bytes(made.certificate_pem)
        descriptor = os.open(fresh / "ca.key", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(made.key_pem)
        with contextlib.suppress(OSError):
            fresh.rename(folder)


def _folder(state_folder: Path) -> Path:
    return state_folder / "ca"


def _pinned(state_folder: Path, host: str) -> Path:
    return state_folder / "tls" / f"{host}.pem"
