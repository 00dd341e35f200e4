"""Rules for the section `database` of an inventory. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from inventory.model import Inventory
from inventory.reading.source import KeyPath
from inventory.rule_findings import EVERY_ROLE, InventoryFinding, InventoryRule
from inventory.values import size_in_bytes

PORT = 5432
MIB = 1 << 20
CONNECTION_MEMORY = 5 * MIB
"""Bytes of a connection in addition to its work memory: a PostgreSQL process with its caches."""
LEAST_MEMORY = 128 * MIB
SECTION: KeyPath = ("database",)


def presence(inventory: Inventory) -> Iterator[InventoryFinding]:
    """Yield a finding unless section and role match: one database, on one host or elsewhere."""
    database, hosts = inventory.database, list(inventory.with_role("database"))
    if database is None:
        for host in hosts:
            yield InventoryFinding(
                (_role(inventory, host), SECTION),
                f"`{host}` has the role database, but there is no section `database` with a password",
                "add `database:` with `password: !env NAME`, or remove the role",
                (EVERY_ROLE,),
            )
        return
    if database.url is not None:
        for host in hosts:
            yield InventoryFinding(
                ((*SECTION, "url"), _role(inventory, host)),
                f"`database.url` is a database elsewhere, but `{host}` has the role database",
                "remove either the URL or the role",
                (EVERY_ROLE,),
            )
        return
    if not hosts:
        yield InventoryFinding(
            (SECTION,),
            "`database` is declared, but no host has the role database",
            "add `database` to the roles of one host, or write the `url:` of a database elsewhere",
            (EVERY_ROLE, (*SECTION, "url")),
        )
    for host in hosts[1:]:
        yield InventoryFinding(
            (_role(inventory, host),),
            f"`{hosts[0]}` and `{host}` both have the role database, but all bots share one",
            "remove the role from one of them",
            (EVERY_ROLE,),
        )


def sharing(inventory: Inventory) -> Iterator[InventoryFinding]:
    """Yield a finding when one nginx distributes requests to several bots without a shared database."""
    if inventory.database is not None:
        return
    runtimes = inventory.with_role("runtime")
    alone = [name for name, host in runtimes.items() if "nginx" not in host.roles]
    for name in inventory.with_role("nginx"):
        mine = {*alone, *([name] if name in runtimes else [])}
        bots = [bot for bot in runtimes if not mine or bot in mine]
        if len(bots) > 1:
            yield InventoryFinding(
                (("hosts", name, "roles"), ("hosts", name)),
                f"nginx on `{name}` distributes requests to {', '.join(bots)}, which share no database",
                "add a section `database` and the role database to one host, or give each bot its own nginx",
                (EVERY_ROLE, SECTION),
            )
            return


def memory(inventory: Inventory) -> Iterator[InventoryFinding]:
    """Yield a finding when half of the memory is not enough for the connections."""
    database = inventory.database
    if database is None or database.url is not None:
        return
    least = max(LEAST_MEMORY, 2 * database.max_connections * CONNECTION_MEMORY)
    if size_in_bytes(database.memory) < least:
        yield InventoryFinding(
            ((*SECTION, "memory"), (*SECTION, "max_connections"), SECTION),
            f"half of {database.memory} is too little memory for {database.max_connections} connections of "
            f"about {CONNECTION_MEMORY // MIB}M each",
            f"write at least {least // MIB}M, or lower `database.max_connections`",
        )


def _role(inventory: Inventory, host: str) -> KeyPath:
    return ("hosts", host, "roles", inventory.hosts[host].roles.index("database"))


RULES: tuple[InventoryRule, ...] = (presence, sharing, memory)
