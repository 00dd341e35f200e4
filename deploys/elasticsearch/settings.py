"""Settings of Elasticsearch: the node of a host, its cluster, and the retention of lines. Pure."""

from __future__ import annotations

from pydantic import Field, SecretStr

from deploys.component import ComponentSettings, Need, Opening
from deploys.elastic.passwords import derived
from deploys.elastic.settings import PackageSettings, package_settings, root_password
from deploys.resources import HostResources
from deploys.topology.logs import ELASTICSEARCH_PORT, TRANSPORT_PORT, Node, keeps_logs, log_nodes
from inventory.model import Inventory
from inventory.values import GIB, MIB, size_in_bytes

LEAST_HEAP = 512 * MIB
MOST_HEAP = 30 * GIB
SMALLEST_HOST = 4 * GIB
"""Memory that is assumed while that of a host is not known."""
PROGRAM = 2 * GIB
"""Size of the unpacked package, and of the next version next to it during an upgrade."""


class ElasticsearchSettings(ComponentSettings):
    """One node. Its cluster has one or three."""

    project: str = "clawd"
    node: str
    nodes: tuple[Node, ...] = Field(
        min_length=1, description="All nodes of the cluster; the first one leads."
    )
    heap: str | None = Field(None, description="Size of the heap; a quarter of the memory when absent.")
    keep_days: int = 30
    audit_days: int = 190
    password: SecretStr = Field(description="Password of `elastic`, who has all rights.")
    writer_password: SecretStr = Field(description="Password of Logstash, which may add lines.")
    reader_password: SecretStr | None = Field(
        None, description="Password of the users of Kibana, who may read."
    )
    packages: PackageSettings = PackageSettings()

    @property
    def address(self) -> str:
        """Return the address by which the other nodes reach this one."""
        return next(node.address for node in self.nodes if node.name == self.node)

    @property
    def alone(self) -> bool:
        """Return whether this node is the whole cluster."""
        return len(self.nodes) == 1

    @property
    def leads(self) -> bool:
        """Return whether the cluster is founded and its users are created here."""
        return self.nodes[0].name == self.node


def settings_for(inventory: Inventory, host: str) -> ElasticsearchSettings | None:
    """Return the node on `host`; `None` without the role logs."""
    if not keeps_logs(inventory, host):
        return None
    logs, root = inventory.logs, root_password(inventory)
    return ElasticsearchSettings(
        project=inventory.project,
        node=host,
        nodes=log_nodes(inventory),
        heap=logs.elasticsearch_heap,
        keep_days=logs.keep_days,
        audit_days=logs.audit_days,
        password=derived(root, inventory.project, "elastic"),
        writer_password=derived(root, inventory.project, "logstash"),
        reader_password=logs.reader_password,
        packages=package_settings(inventory),
    )


def openings_for(inventory: Inventory, host: str) -> tuple[Opening, ...]:
    """Return the ports of queries and nodes, for the other nodes; a single node serves its own host only."""
    others = tuple(node.address for node in log_nodes(inventory) if node.name != host)
    if not keeps_logs(inventory, host) or not others:
        return ()
    return (
        Opening(port=ELASTICSEARCH_PORT, sources=others, purpose="Elasticsearch, from log hosts"),
        Opening(port=TRANSPORT_PORT, sources=others, purpose="Elasticsearch nodes"),
    )


def ports_for(inventory: Inventory, host: str) -> tuple[int, ...]:
    """Return both ports, also where only this host reaches them."""
    keeps = keeps_logs(inventory, host)
    return (ELASTICSEARCH_PORT, TRANSPORT_PORT) if keeps else ()


def needs_for(inventory: Inventory, host: str, resources: HostResources) -> tuple[Need, ...]:
    """Return memory of heap and Java, and disk space for the lines of all days, twice with three nodes.

    The heap is that of a host with the memory of `resources`.
    """
    if not keeps_logs(inventory, host):
        return ()
    logs, count = inventory.logs, len(log_nodes(inventory))
    memory = resources.memory.size if resources.memory else SMALLEST_HOST
    heap, source = _heap_counted(memory, logs.elasticsearch_heap)
    copies = 1 if count == 1 else 2
    days = max(logs.keep_days, logs.audit_days)
    lines = size_in_bytes(logs.daily) * days * copies // count
    return (
        Need(
            what="Elasticsearch",
            memory=heap * 3 // 2,
            disk=PROGRAM,
            how=f"heap {heap // MIB} MiB ({source}), and half of it again for Java itself and the network",
        ),
        Need(
            what="log lines",
            disk=lines,
            path="/var/lib/elasticsearch",
            how=f"{logs.daily} a day × {days} days × {copies} {'copy' if copies == 1 else 'copies'} "
            f"on {count} {'host' if count == 1 else 'hosts'}",
        ),
    )


def _heap_counted(memory: int, declared: str | None) -> tuple[int, str]:
    """Return the heap on a host with `memory` bytes, and its source; a declared one also where refused."""
    if declared is not None:
        return size_in_bytes(declared), "logs.elasticsearch_heap"
    return heap_for(memory, None), f"a quarter of {memory // MIB} MiB"


def heap_for(memory: int, declared: str | None) -> int:
    """Return the bytes of heap on a host with `memory` bytes: as declared, else a quarter of the memory.

    A quarter leaves a quarter to Logstash and Kibana and half to the pages of the index, as Elasticsearch's
    documentation demands (at most half). Raise `ValueError` when what is declared is more than half.
    """
    if declared is None:
        quarter = memory // 4 // (64 * MIB) * (64 * MIB)
        return min(max(quarter, LEAST_HEAP), MOST_HEAP)
    if (heap := size_in_bytes(declared)) > memory // 2:
        raise ValueError(f"{declared} is more than half of the host's {memory // MIB} MiB")
    return heap
