"""Rules for the section `logs` of an inventory. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from inventory.model import Inventory
from inventory.reading.source import KeyPath
from inventory.rule_findings import EVERY_ROLE, InventoryFinding, InventoryRule, at_least
from inventory.values import size_in_bytes

LEAST_ELASTICSEARCH_HEAP = "512M"
MOST_ELASTICSEARCH_HEAP = "30G"
"""Above about this size Java's pointers need twice the space: Elasticsearch's documentation, "JVM heap
size"."""
LEAST_HEAP = "256M"
CLUSTERS = (1, 3)


def placement(inventory: Inventory) -> Iterator[InventoryFinding]:
    """Yield a finding unless there are one or three log hosts, none of which has the role runtime."""
    hosts = inventory.with_role("logs")
    for name, host in hosts.items():
        if "runtime" in host.roles:
            yield InventoryFinding(
                (("hosts", name, "roles", host.roles.index("logs")), ("hosts", name)),
                f"`{name}` has the roles logs and runtime, which exclude each other: Elasticsearch would "
                "evict the model's weights from the page cache",
                "give the role logs to another host, without the role runtime",
            )
    if hosts and len(hosts) not in CLUSTERS:
        why = (
            "two hosts cannot form a majority when they lose contact"
            if len(hosts) == 2
            else "three keep every line twice and tolerate the loss of one; other numbers are not supported"
        )
        last = list(hosts)[-1]
        yield InventoryFinding(
            (("hosts", last, "roles", hosts[last].roles.index("logs")), ("hosts",)),
            f"{len(hosts)} hosts have the role logs: {why}",
            "give the role to one host or to three",
            (EVERY_ROLE,),
        )


def secrets_present(inventory: Inventory) -> Iterator[InventoryFinding]:
    """Yield a finding when a host has the role logs but there is no password."""
    if inventory.with_role("logs") and inventory.logs.password is None:
        yield InventoryFinding(
            (("logs",), ("hosts",)),
            "a host has the role logs, but `logs.password` is missing",
            "add `logs:` with `password: !file PATH`, and create the file with `openssl rand -base64 48`",
            (EVERY_ROLE, ("logs", "password")),
        )


def heaps(inventory: Inventory) -> Iterator[InventoryFinding]:
    """Yield a finding when a heap is too small to start, or too large for Java's short pointers."""
    logs = inventory.logs
    if (heap := logs.elasticsearch_heap) is not None:
        path: KeyPath = ("logs", "elasticsearch_heap")
        yield from at_least(path, heap, LEAST_ELASTICSEARCH_HEAP, "Elasticsearch")
        if size_in_bytes(heap) > size_in_bytes(MOST_ELASTICSEARCH_HEAP):
            yield InventoryFinding(
                (path,),
                f"{heap} is more than Java can address with short pointers",
                f"write at most {MOST_ELASTICSEARCH_HEAP}; the rest of the memory serves as page cache",
            )
    yield from at_least(("logs", "logstash_heap"), logs.logstash_heap, LEAST_HEAP, "Logstash")
    yield from at_least(("logs", "kibana_heap"), logs.kibana_heap, LEAST_HEAP, "Kibana")


def kibana(inventory: Inventory) -> Iterator[InventoryFinding]:
    """Yield a finding when Kibana would be open to the world, or without a firewall."""
    path: KeyPath = ("logs", "kibana_from")
    for index, network in enumerate(inventory.logs.kibana_from):
        if network.prefixlen == 0:
            yield InventoryFinding(
                ((*path, index),),
                f"{network} is the whole internet: only one password would protect all log lines",
                "write the networks of your users, or remove it and use `ssh -L 5601:localhost:5601`",
            )
    if inventory.logs.kibana_from and not inventory.firewall.enabled:
        yield InventoryFinding(
            (path,),
            "`logs.kibana_from` needs the firewall, but `firewall.enabled` is false",
            "remove it and use `ssh -L 5601:127.0.0.1:5601`, or enable the firewall",
            (("firewall", "enabled"),),
        )


RULES: tuple[InventoryRule, ...] = (placement, secrets_present, heaps, kibana)
