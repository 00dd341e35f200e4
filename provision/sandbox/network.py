"""The network between this machine and its hosts: a bridge, one nftables table, forwarding.

The machine's own network is not changed, except that it forwards packets while a sandbox is running; the
previous setting is recorded (`claims.py`) and restored when the last sandbox is removed.
"""

from __future__ import annotations

import json
import shutil
from ipaddress import IPv4Network, ip_network
from pathlib import Path
from typing import Any

from inventory.errors import SandboxError
from provision.sandbox import claims
from provision.sandbox.commands import run
from provision.sandbox.layout import Layout

_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
_USUAL_MTU = 1500


def ensure_network(layout: Layout) -> None:
    """Create the bridge and the table and enable forwarding, if they are missing.

    Raises `SandboxError` when something else uses the subnet or the bridge.
    """
    routes: list[dict[str, Any]] = json.loads(
        run(["ip", "-json", "-4", "route", "show", "table", "all"]).stdout or "[]"
    )
    taken = conflict(routes, layout)
    if taken is not None:
        raise SandboxError(
            f"the sandbox's network {layout.subnet} is already routed to {taken} on this machine",
            advice="disconnect that network (perhaps a VPN) while the sandbox is running",
        )
    if not Path("/sys/class/net", layout.bridge).exists():
        run(["ip", "link", "add", layout.bridge, "type", "bridge"])
    elif not Path("/sys/class/net", layout.bridge, "bridge").exists():
        raise SandboxError(
            f"this machine already has a network interface {layout.bridge} that is not the sandbox's bridge",
            advice=f"rename or remove the interface {layout.bridge}",
        )
    for command in bridge_commands(layout):
        run(command)
    run(["nft", "-f", "-"], stdin=table_rules(layout))
    if _docker_filters():
        for rule in docker_rules(layout):
            if run(["iptables", "--check", *rule], check=False).returncode != 0:
                run(["iptables", "--insert", *rule])
    _forward()


def remove_network(layout: Layout) -> None:
    """Remove what `ensure_network` created, if it exists."""
    if Path("/sys/class/net", layout.bridge, "bridge").exists():
        run(["ip", "link", "delete", layout.bridge])
    if run(["nft", "list", "table", "ip", layout.table], check=False).returncode == 0:
        run(["nft", "delete", "table", "ip", layout.table])
    if _docker_filters():
        for rule in docker_rules(layout):
            run(["iptables", "--delete", *rule], check=False)
    release(layout)


def bridge_commands(layout: Layout) -> list[list[str]]:
    """Return the commands that set the bridge's address and enable it; each may be repeated."""
    address = f"{layout.machine_address}/{layout.subnet.prefixlen}"
    return [
        ["ip", "address", "replace", address, "dev", layout.bridge],
        ["ip", "link", "set", layout.bridge, "up"],
    ]


def table_rules(layout: Layout) -> str:
    """Return the rules that atomically replace the sandbox's nftables table.

    Connections of hosts to the outside have this machine's address; connections from outside are dropped.
    """
    return f"""\
table ip {layout.table}
delete table ip {layout.table}
table ip {layout.table} {{
    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr {layout.subnet} ip daddr != {layout.subnet} masquerade
    }}
    chain forward {{
        type filter hook forward priority filter; policy accept;
        iifname != "{layout.bridge}" oifname "{layout.bridge}" ct state new drop
    }}
}}
"""


def docker_rules(layout: Layout) -> list[list[str]]:
    """Return the rules that accept the hosts' packets, which Docker would drop otherwise.

    `DOCKER-USER` is the chain that Docker leaves to the user (docs.docker.com, packet filtering).
    """
    return [
        ["DOCKER-USER", "--in-interface", layout.bridge, "--jump", "ACCEPT"],
        ["DOCKER-USER", "--out-interface", layout.bridge, "--jump", "ACCEPT"],
    ]


def _docker_filters() -> bool:
    return (
        shutil.which("iptables") is not None
        and run(["iptables", "--list-rules", "DOCKER-USER"], check=False).returncode == 0
    )


def conflict(routes: list[dict[str, Any]], layout: Layout) -> str | None:
    """Return the interface of an existing route within the subnet, unless it is the bridge; else `None`.

    `routes` is the output of `ip -json route`. Routes to larger networks do not conflict, because the
    subnet's route is more specific.
    """
    for route in routes:
        device = route.get("dev")
        if route["dst"] == "default" or device in (None, layout.bridge):
            continue
        destination = ip_network(route["dst"], strict=False)
        if isinstance(destination, IPv4Network) and destination.subnet_of(layout.subnet):
            return str(device)
    return None


def outgoing_mtu() -> int:
    """Return the MTU in bytes of this machine's default route, which hosts must not exceed."""
    routes = json.loads(run(["ip", "-json", "-4", "route", "show", "default"]).stdout or "[]")
    for route in routes:
        mtu = Path("/sys/class/net", route.get("dev", ""), "mtu")
        if mtu.exists():
            return min(int(mtu.read_text()), _USUAL_MTU)
    return _USUAL_MTU


def _forward() -> None:
    with claims.held() as shared:
        shared.setdefault("before", _FORWARDING.read_text().strip())
        if _FORWARDING.read_text().strip() != "1":
            _FORWARDING.write_text("1")


def release(layout: Layout) -> None:
    """Release the claim of `layout`; after the last one restore the setting of forwarding."""
    with claims.held() as shared:
        if shared.get("bridges", {}).get(layout.bridge, {}).get("folder") == str(layout.folder):
            del shared["bridges"][layout.bridge]
        if not shared.get("bridges"):
            if "before" in shared:
                _FORWARDING.write_text(shared["before"])
            shared.clear()
