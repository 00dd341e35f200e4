"""Slow clients before the real nginx behind the real rules, in network namespaces of this machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest

from deploys.firewall.rules import accepting, counts
from deploys.firewall.settings import FirewallSettings
from deploys.nginx.settings import openings_for
from deploys.ops.paths.files import rendered
from tests.deploys.inventories import inventory
from tests.deploys.nginx.front import NGINX, Served, nginx

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("ip"), reason="network namespaces need root"),
    pytest.mark.skipif(not NGINX, reason="there is no nginx"),
]

SERVER, CLIENT = f"clawd-server-{os.getpid()}", f"clawd-client-{os.getpid()}"
INSIDE = ("ip", "netns", "exec")
LIMIT = 128
SLOW = 200
# Each two addresses of one client, and one of another.
FOUR = ("10.9.0.2", "10.9.0.2", "10.9.0.3")
SIX = ("fd01::2", "fd01::3", "fd02::2")
LINKS = f"""
ip netns add {SERVER}
ip netns add {CLIENT}
ip link add cls0 netns {SERVER} type veth peer name clc0 netns {CLIENT}
for space in {SERVER} {CLIENT}; do ip -n $space link set lo up; done
ip -n {SERVER} addr add 10.9.0.1/24 dev cls0
ip -n {SERVER} addr add fd00::1/16 dev cls0 nodad
ip -n {SERVER} link set cls0 up
for address in 10.9.0.2/24 10.9.0.3/24; do ip -n {CLIENT} addr add $address dev clc0; done
for address in fd01::2/8 fd01::3/8 fd02::2/8; do ip -n {CLIENT} addr add $address dev clc0 nodad; done
ip -n {CLIENT} link set clc0 up
ip -n {SERVER} route add fd00::/8 dev cls0
"""
ATTACK = textwrap.dedent(
    """
    import json, socket, ssl, sys, time
    server, port, slow, first, second, other = *sys.argv[1:2], *map(int, sys.argv[2:4]), *sys.argv[4:]
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    context = ssl._create_unverified_context()

    def opened(source):
        plain = socket.socket(family)
        plain.settimeout(5)
        plain.bind((source, 0))
        plain.connect((server, port))
        return context.wrap_socket(plain)

    def status(source):
        try:
            line = opened(source)
            line.sendall(b"GET /healthz HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
            return line.recv(64).split()[1].decode()
        except OSError as error:
            return type(error).__name__

    held = []
    for _ in range(slow):
        try:
            line = opened(first)
            line.sendall(b"POST /telegram/webhook HTTP/1.1\\r\\nHost:")
            held.append(line)
        except ConnectionRefusedError:
            pass
    found = {"held": len(held), "same client": status(second), "another": status(other)}
    begun = time.monotonic()
    held[0].settimeout(60)
    try:
        rest = held[0].recv(64)
    except OSError:
        rest = b""
    found["seconds"] = time.monotonic() - begun
    print(json.dumps(found))
    """
).replace("\\\\", "\\")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("limits")
    try:
        subprocess.run(["sh", "-ec", LINKS], check=True, timeout=30)
        with nginx(
            folder, ("127.0.0.1:1",), within=(*INSIDE, SERVER), ipv6=True, connections=LIMIT, names=()
        ) as front:
            openings = openings_for(inventory(nginx={"connections": LIMIT}), "bot1")
            ports = {80: front.http_port, 443: front.https_port}
            moved = tuple(opening.model_copy(update={"port": ports[opening.port]}) for opening in openings)
            settings = FirewallSettings(openings=moved)
            rules = {"rules": accepting(settings, {22}, {}), "counts": counts(settings)}
            (folder / "rules").write_text(rendered("firewall/nftables.conf", rules))
            subprocess.run([*INSIDE, SERVER, "nft", "-f", str(folder / "rules")], check=True, timeout=30)
            yield front
    finally:
        for space in (SERVER, CLIENT):
            subprocess.run(["ip", "netns", "delete", space], check=False, stderr=subprocess.DEVNULL)


def attacked(served: Served, server: str, addresses: tuple[str, str, str], slow: int = SLOW) -> Any:
    """What a client finds that opens so many slow connections."""
    words = [*INSIDE, CLIENT, sys.executable, "-c", ATTACK, server, str(served.https_port), str(slow)]
    completed = subprocess.run([*words, *addresses], capture_output=True, text=True, timeout=120)
    assert completed.returncode == 0, completed.stderr
    return json.loads(completed.stdout)


@pytest.mark.parametrize(("server", "addresses"), [("10.9.0.1", FOUR), ("fd00::1", SIX)])
def test_connection_limit_of_one_client_does_not_affect_another(
    served: Served, server: str, addresses: tuple[str, str, str]
) -> None:
    """Unfinished headers; of IPv6, all addresses of a network of 64 bits are one client."""
    found = attacked(served, server, addresses)
    assert found["held"] == LIMIT
    assert found["same client"] == "ConnectionRefusedError"
    # There is no bot here: what counts is that nginx answers.
    assert found["another"] == "502"
    assert found["seconds"] < 20


def test_counted_clients_do_not_change_the_digest_of_live_rules(served: Served) -> None:
    from deploys.firewall.deploy import LIVE_DIGEST

    def digest() -> str:
        words = [*INSIDE, SERVER, "sh", "-c", LIVE_DIGEST]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()

    before = digest()
    assert len(before) == 64
    attacked(served, "10.9.0.1", FOUR, slow=3)
    assert digest() == before
    subprocess.run([*INSIDE, SERVER, "nft", "add", "rule", "inet", "clawd", "input", "accept"], check=True)
    assert digest() != before
