"""An ACME server for tests: pebble, and the DNS that it asks, on an address of this machine.

pebble is Debian's package, unpacked into a folder; it brings no certificates of its own.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.deploys.tls.certified import certified

ACME_PORT, ROOTS_PORT, DNS_PORT, MANAGEMENT_PORT = 14000, 14001, 8053, 8055
LIFETIME_S = 3600


@dataclass(frozen=True)
class Authority:
    """The server's directory, what its own certificate leads to, and the address of its DNS.

    `roots` is what issued certificates lead to: another at every start.
    """

    directory: str
    ca: Path
    roots: Path
    dns: str
    management: str

    def change_dns(self, what: str, **values: Any) -> None:
        """Change what the DNS answers."""
        body = json.dumps(values).encode()
        urllib.request.urlopen(f"{self.management}/{what}", body, timeout=10).close()


@contextmanager
def pebble(folder: Path, address: str) -> Iterator[Authority]:
    """pebble at `address`."""
    programs = folder / "usr" / "bin"
    subprocess.run(
        "apt-get download -qq pebble && dpkg --extract pebble_*.deb .",
        shell=True,
        check=True,
        cwd=folder,
        timeout=120,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    certified(folder, "pebble", address)
    config = {
        "listenAddress": f"{address}:{ACME_PORT}",
        "managementListenAddress": f"{address}:{ROOTS_PORT}",
        "certificate": str(folder / "server.pem"),
        "privateKey": str(folder / "server.key"),
        "httpPort": 80,
        "tlsPort": 443,
        "certificateValidityPeriod": LIFETIME_S,
    }
    (folder / "pebble.json").write_text(json.dumps({"pebble": config}))
    dns, management = f"{address}:{DNS_PORT}", f"{address}:{MANAGEMENT_PORT}"
    answering = [programs / "pebble-challtestsrv", "-dns01", dns, "-management", management]
    answering += ["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", ""]
    issuing = [programs / "pebble", "-config", folder / "pebble.json", "-dnsserver", dns]
    processes = []
    try:
        with (folder / "pebble.log").open("wb") as log:
            for command in (answering, issuing):
                processes.append(
                    subprocess.Popen(
                        [str(word) for word in command],
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        env={**os.environ, "PEBBLE_VA_NOSLEEP": "1"},
                    )
                )
        for port in (MANAGEMENT_PORT, ACME_PORT, ROOTS_PORT):
            _wait_for(address, port)
        ca, roots = folder / "ca.pem", folder / "roots.pem"
        trusting = ssl.create_default_context(cafile=str(ca))
        root = f"https://{address}:{ROOTS_PORT}/roots/0"
        with urllib.request.urlopen(root, timeout=10, context=trusting) as answer:
            roots.write_bytes(answer.read())
        yield Authority(f"https://{address}:{ACME_PORT}/dir", ca, roots, dns, f"http://{management}")
    finally:
        for process in processes:
            process.terminate()
            process.wait(timeout=10)


def _wait_for(address: str, port: int) -> None:
    deadline = time.monotonic() + 15
    while True:
        with socket.socket() as tried:
            if tried.connect_ex((address, port)) == 0:
                return
        assert time.monotonic() < deadline, f"nothing listens on {address}:{port}"
        time.sleep(0.1)
