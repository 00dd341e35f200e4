"""Rules for the hosts of an inventory, their roles and their ports. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from inventory.addresses import is_of_the_machine_itself, normal_address
from inventory.model import Inventory
from inventory.reading.source import KeyPath, dotted
from inventory.rule_findings import EVERY_ROLE, InventoryFinding, InventoryRule, at_least
from inventory.sections.hosts import Bastion, HostRole
from inventory.wording import nearest

RESERVED_LOGINS = (
    *(
        "root",
        "daemon",
        "bin",
        "sys",
        "sync",
        "games",
        "man",
        "lp",
        "mail",
        "news",
        "uucp",
        "proxy",
        "www-data",
    ),
    *("backup", "list", "irc", "nobody", "_apt", "sshd", "messagebus", "systemd-network", "systemd-timesync"),
    *(
        "sudo",
        "adm",
        "docker",
        "clawd",
        "clawd-bot",
        "clawd-engine",
        "clawd-operators",
        "postgres",
        "prometheus",
    ),
    *("grafana", "elasticsearch", "logstash", "kibana"),
)
"""Users and groups of Debian and of components; others of a host are queried when the plan is made."""
LEAST_JOURNAL = "16M"


@dataclass(frozen=True, slots=True)
class PortClaim:
    """A declared port: a `component` listens on it or, without one, the firewall opens it."""

    path: KeyPath
    port: int
    hosts: frozenset[str]
    component: str = ""
    protocol: str = "tcp"
    remedy: str = "give one of them another port"


def addresses(inventory: Inventory) -> Iterator[InventoryFinding]:
    """Yield a finding when two hosts are the same machine."""
    first: dict[tuple[str, ...], str] = {}
    for name, host in inventory.hosts.items():
        path: KeyPath = ("hosts", name)
        machine = (normal_address(host.address), str(host.port), _jump(inventory, host.bastion))
        other = first.setdefault(machine, name)
        if other != name:
            yield InventoryFinding(
                ((*path, "address"), ("hosts", other, "address")),
                f"`{name}` and `{other}` have the same address {host.address}",
                "give each host its own address, or give one host all the roles",
            )


def internal_addresses(inventory: Inventory) -> Iterator[InventoryFinding]:
    """Yield a finding when an internal address is a loopback or link-local one."""
    if len(inventory.hosts) < 2:
        return
    for name, host in inventory.hosts.items():
        if host.internal_address is not None and is_of_the_machine_itself(host.internal_address):
            yield InventoryFinding(
                (("hosts", name, "internal_address"),),
                f"{host.internal_address} is a local address: other hosts cannot reach `{name}` by it",
                "write the address of a network interface, or remove it",
            )
        elif (
            host.internal_address is None
            and is_of_the_machine_itself(host.address)
            and _work_together(inventory)
        ):
            yield InventoryFinding(
                (("hosts", name, "address"),),
                f"{host.address} is a local address: other hosts cannot reach `{name}` by it",
                f"add `internal_address:` to `{name}` with its address for the other hosts",
                (EVERY_ROLE, ("hosts", name, "internal_address")),
            )


def _work_together(inventory: Inventory) -> bool:
    """Return whether hosts depend on each other; they do not when each is a complete deployment."""
    shared: tuple[HostRole, ...] = ("database", "monitoring", "logs")
    alike = inventory.with_role("nginx").keys() == inventory.with_role("runtime").keys()
    return not alike or any(inventory.with_role(role) for role in shared)


def jump_hosts(inventory: Inventory) -> Iterator[InventoryFinding]:
    """Yield a finding unless each jump host has an address or is a host of this file reached directly."""
    for name, host in inventory.hosts.items():
        path: KeyPath = ("hosts", name, "bastion")
        jump = host.bastion
        if jump is None:
            continue
        if jump.host is None and jump.address is None:
            yield InventoryFinding(
                (path,),
                f"`{dotted(path)}` has neither `host` nor `address`",
                "add `host:` with the name of a host of this file, or `address:`",
                ((*path, "host"), (*path, "address")),
            )
        elif jump.host is not None:
            yield from _named_jump_host(inventory, name, path, jump, jump.host)


def _named_jump_host(
    inventory: Inventory, name: str, path: KeyPath, jump: Bastion, named: str
) -> Iterator[InventoryFinding]:
    own = sorted(jump.model_fields_set - {"host"})
    if own:
        yield InventoryFinding(
            ((*path, own[0]),),
            f"`{dotted(path)}` has {_listed(own)} in addition to the host `{named}`",
            f"remove {_listed(own)} to use what `hosts.{named}` declares, or remove `host:`",
        )
    at: KeyPath = (*path, "host")
    if named == name:
        yield InventoryFinding(
            (at,), f"`{name}` is its own jump host", "write another host, or remove `bastion:`"
        )
    elif named not in inventory.hosts:
        yield InventoryFinding(
            (at,),
            f"there is no host `{named}` in this file",
            nearest(named, list(inventory.hosts)),
            (("hosts", named),),
        )
    elif inventory.hosts[named].bastion is not None:
        yield InventoryFinding(
            (at,),
            f"the jump host `{named}` is itself behind a jump host",
            "write a host that is reached directly",
        )


def _listed(keys: list[str]) -> str:
    return ", ".join(f"`{key}`" for key in keys)


def _jump(inventory: Inventory, jump: Bastion | None) -> str:
    """Return the address of a jump host, empty when there is none."""
    named = inventory.hosts.get(jump.host) if jump and jump.host else None
    address = named.address if named else jump.address if jump else None
    return normal_address(address) if address else ""


def roles(inventory: Inventory) -> Iterator[InventoryFinding]:
    """Yield a finding for a duplicate role, and for a role that is needed but missing."""
    for name, host in inventory.hosts.items():
        for index, role in enumerate(host.roles):
            if role in host.roles[:index]:
                yield InventoryFinding(
                    (("hosts", name, "roles", index),),
                    f"`{name}` has the role {role} twice",
                    "list each role once",
                )
    if not inventory.with_role("runtime"):
        yield InventoryFinding(
            (("hosts",),),
            "no host has the role runtime",
            "add `runtime` to the roles of a host",
            (EVERY_ROLE,),
        )
    if inventory.with_role("nginx"):
        return
    channels = inventory.channels
    if channels.telegram and channels.telegram.mode == "webhook":
        yield InventoryFinding(
            (("channels", "telegram", "mode"), ("channels", "telegram")),
            "Telegram's webhook needs a host with the role nginx, but no host has it",
            "add `nginx` to the roles of a host, or write `mode: polling`",
            (EVERY_ROLE,),
        )
    if channels.feishu:
        yield InventoryFinding(
            (("channels", "feishu"),),
            "Feishu's webhook needs a host with the role nginx, but no host has it",
            "add `nginx` to the roles of a host",
            (EVERY_ROLE,),
        )


def ports(inventory: Inventory) -> Iterator[InventoryFinding]:
    """Yield a finding when a port of a host is declared twice."""
    declared = claims(inventory)
    for index, claim in enumerate(declared):
        for earlier in declared[:index]:
            shared = [host for host in inventory.hosts if host in claim.hosts & earlier.hosts]
            if shared and (claim.port, claim.protocol) == (earlier.port, earlier.protocol):
                remedy = claim.remedy
                if claim.path[0] == earlier.path[0] == "firewall":
                    remedy = "keep one entry, with all networks in its `from`"
                elif earlier.path == ("bot", "port"):
                    remedy = "remove it: the bot is reached only through nginx"
                yield InventoryFinding(
                    (claim.path, earlier.path),
                    f"port {claim.port} is used twice on {', '.join(shared)}: "
                    f"by `{dotted(claim.path)}` and by `{dotted(earlier.path)}`",
                    remedy,
                    (EVERY_ROLE,),
                )
                break


def claims(inventory: Inventory) -> tuple[PortClaim, ...]:
    """Return all declared ports; the settings of components have the ports that cannot be declared."""
    bots, fronts = frozenset(inventory.with_role("runtime")), frozenset(inventory.with_role("nginx"))
    grafana, watchers = inventory.monitoring.grafana, frozenset(inventory.with_role("monitoring"))
    pages: KeyPath = ("monitoring", "grafana", "port")
    opened = "remove it: the firewall opens the ports of components automatically"
    return (
        *_by_ssh(inventory),
        PortClaim(("nginx", "https_port"), inventory.nginx.https_port, fronts, "nginx"),
        PortClaim(("nginx", "http_port"), inventory.nginx.http_port, fronts, "nginx"),
        PortClaim(("bot", "port"), inventory.bot.port, bots, "runtime"),
        PortClaim(
            ("bot", "internal_port"),
            inventory.bot.internal_port,
            bots if len(inventory.hosts) > 1 else frozenset(),
            "runtime",
        ),
        *((PortClaim(pages, grafana.port, watchers, "grafana"),) if grafana else ()),
        *(
            PortClaim(
                ("firewall", "open", index, "port"),
                entry.port,
                frozenset(inventory.hosts),
                protocol=entry.protocol,
                remedy=opened,
            )
            for index, entry in enumerate(inventory.firewall.open)
        ),
    )


def _by_ssh(inventory: Inventory) -> Iterator[PortClaim]:
    """Yield the ports of sshd: the declared one, or else the SSH port of each host."""
    declared = inventory.base.ssh_port
    if declared is not None:
        yield PortClaim(("base", "ssh_port"), declared, frozenset(inventory.hosts), "base")
        return
    for name, host in inventory.hosts.items():
        yield PortClaim(("hosts", name, "port"), host.port, frozenset({name}), "base")


def base(inventory: Inventory) -> Iterator[InventoryFinding]:
    """Yield a finding when the journal is too small, or a login is duplicate or reserved."""
    yield from at_least(("base", "journal_max"), inventory.base.journal_max, LEAST_JOURNAL, "journald")
    names: set[str] = set()
    for index, operator in enumerate(inventory.base.operators):
        path: KeyPath = ("base", "operators", index)
        if operator.name in names or operator.name in RESERVED_LOGINS:
            problem = "is listed twice" if operator.name in names else "belongs to the system"
            yield InventoryFinding(
                ((*path, "name"),), f"the login {operator.name} {problem}", "choose another name"
            )
        names.add(operator.name)


RULES: tuple[InventoryRule, ...] = (addresses, internal_addresses, jump_hosts, roles, ports, base)
