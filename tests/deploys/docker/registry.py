"""A registry of images on an address of this machine: CNCF's, as Debian has it, behind TLS and a login."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import bcrypt

from tests.deploys.tls.certified import certified
from tests.hosts import until

PORT, USER = 5000, "bots"
CONFIG = """version: 0.1
storage: {{filesystem: {{rootdirectory: {folder}/data}}}}
http: {{addr: "{address}:{port}", tls: {{certificate: {folder}/server.pem, key: {folder}/server.key}}}}
auth: {{htpasswd: {{realm: images, path: {folder}/htpasswd}}}}
"""
_REQUEST = re.compile(r'"([A-Z]+) (\S+) HTTP/[0-9.]+" (\d+)')


@dataclass
class Registry:
    """What it is called, its authority, and what was asked of it."""

    folder: Path
    address: str
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        return f"{self.address}:{PORT}"

    @property
    def authority(self) -> Path:
        return self.folder / "ca.pem"

    def start(self, password: str) -> None:
        hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()
        (self.folder / "htpasswd").write_text(f"{USER}:{hashed}\n")
        words = [str(self.folder / "usr/bin/docker-registry"), "serve", str(self.folder / "config.yml")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(words, stdout=log, stderr=log)
        until(self._listens, seconds=15)

    def stop(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()

    @property
    def requests(self) -> list[tuple[str, str, int]]:
        """Method, path and status of each, from its log."""
        found = _REQUEST.findall((self.folder / "log").read_text())
        return [(method, path, int(status)) for method, path, status in found]

    @property
    def blobs(self) -> dict[str, int]:
        """What it keeps: digests with their bytes."""
        files = (self.folder / "data/docker/registry/v2/blobs").glob("sha256/*/*/data")
        return {file.parent.name: file.stat().st_size for file in files}

    def _listens(self) -> bool:
        try:
            socket.create_connection((self.address, PORT), timeout=1).close()
        except OSError:
            return False
        return True


@contextmanager
def installed(folder: Path, address: str) -> Iterator[Registry]:
    """One that is not started yet; it is stopped afterwards."""
    folder.mkdir()
    unpack = "apt-get download -qq docker-registry && dpkg --extract docker-registry_*.deb ."
    subprocess.run(unpack, shell=True, check=True, cwd=folder, timeout=120, capture_output=True)
    certified(folder, "images", address)
    (folder / "config.yml").write_text(CONFIG.format(folder=folder, address=address, port=PORT))
    (folder / "log").touch()
    registry = Registry(folder, address)
    try:
        yield registry
    finally:
        registry.stop()
