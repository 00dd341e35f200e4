"""A server of a test with a certificate of an authority of its own."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from deploys.tls.certificate import new_authority, new_certificate
from deploys.tls.settings import TlsSettings


def certified(folder: Path, name: str, address: str) -> None:
    """ca.pem, server.pem and server.key in `folder`, for a server at `address`."""
    now = datetime.now(UTC)
    authority = new_authority(name, now)
    server = new_certificate(TlsSettings(names=(address,)), authority, now)
    (folder / "ca.pem").write_bytes(authority.certificate_pem)
    (folder / "server.pem").write_bytes(server.certificate_pem)
    (folder / "server.key").write_bytes(server.key_pem)
