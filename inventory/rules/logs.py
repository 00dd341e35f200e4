"""What must hold for the section `logs` of an inventory. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from inventory.finding import EVERY_ROLE, Finding, Rule, at_least
from inventory.model import Inventory
from inventory.source import KeyPath
from inventory.values import size_in_bytes

LEAST_ELASTICSEARCH_HEAP = "512M"
MOST_ELASTICSEARCH_HEAP = "30G"
"""Beyond about this Java's pointers take twice the space: Elasticsearch's documentation, "JVM heap size"."""
LEAST_HEAP = "256M"
CLUSTERS = (1, 3)


def placement(inventory: Inventory) -> Iterator[Finding]:
    """Log hosts are one or three, and none of them serves a model."""
    hosts = inventory.with_role("logs")
    for name, host in hosts.items():
        if "runtime" in host.roles:
            yield Finding(
                (("hosts", name, "roles", host.roles.index("logs")), ("hosts", name)),
                f"`{name}` has the roles logs and runtime, which exclude each other: Elasticsearch would "
                "push the model's weights out of the memory that the host keeps files in",
                "give the role logs to a host of its own, or to one without runtime",
            )
    if hosts and len(hosts) not in CLUSTERS:
        why = (
            "two cannot tell which of them is right when they lose each other"
            if len(hosts) == 2
            else "three keep every line twice and survive the loss of one; more are not arranged here"
        )
        last = list(hosts)[-1]
        yield Finding(
            (("hosts", last, "roles", hosts[last].roles.index("logs")), ("hosts",)),
            f"{len(hosts)} hosts have the role logs: {why}",
            "give the role to one host or to three",
            (EVERY_ROLE,),
        )


def secrets_present(inventory: Inventory) -> Iterator[Finding]:
    """A host that keeps log lines has a password to guard them with."""
    if inventory.with_role("logs") and inventory.logs.password is None:
        yield Finding(
            (("logs",), ("hosts",)),
            "a host has the role logs, and `logs.password` is not given",
            "add `logs:` with `password: !file PATH`, made by `openssl rand -base64 48`",
            (EVERY_ROLE, ("logs", "password")),
        )


def heaps(inventory: Inventory) -> Iterator[Finding]:
    """The programs get enough memory to start, and Java not more than it can address well."""
    logs = inventory.logs
    if (heap := logs.elasticsearch_heap) is not None:
        path: KeyPath = ("logs", "elasticsearch_heap")
        yield from at_least(path, heap, LEAST_ELASTICSEARCH_HEAP, "Elasticsearch")
        if size_in_bytes(heap) > size_in_bytes(MOST_ELASTICSEARCH_HEAP):
            yield Finding(
                (path,),
                f"{heap} is more than Java addresses with short pointers",
                f"write at most {MOST_ELASTICSEARCH_HEAP}; the rest of the memory keeps files at hand",
            )
    yield from at_least(("logs", "logstash_heap"), logs.logstash_heap, LEAST_HEAP, "Logstash")
    yield from at_least(("logs", "kibana_heap"), logs.kibana_heap, LEAST_HEAP, "Kibana")


def kibana(inventory: Inventory) -> Iterator[Finding]:
    """Kibana is not opened to the world."""
    path: KeyPath = ("logs", "kibana_from")
    for index, network in enumerate(inventory.logs.kibana_from):
        if network.prefixlen == 0:
            yield Finding(
                ((*path, index),),
                f"{network} is the whole world, and every log line lies behind this one password",
                "name the networks of the people, or leave it out and use `ssh -L 5601:localhost:5601`",
            )
    if inventory.logs.kibana_from and not inventory.firewall.enabled:
        yield Finding(
            (path,),
            "`logs.kibana_from` is kept by the firewall, which `firewall.enabled: false` turns off",
            "leave it out and use `ssh -L 5601:127.0.0.1:5601`, or turn the firewall on",
            (("firewall", "enabled"),),
        )


RULES: tuple[Rule, ...] = (placement, secrets_present, heaps, kibana)
