"""Which hosts keep log lines, and by which addresses and ports the log programs reach each other."""

from __future__ import annotations

from pydantic import Field

from deploys.component import ComponentSettings
from deploys.topology.addresses import host_and_port
from inventory.model import Inventory

ELASTICSEARCH_PORT = 9200
TRANSPORT_PORT = 9300
KIBANA_PORT = 5601
BEATS_PORT = 5044
LOGSTASH_API_PORT = 9600


class Node(ComponentSettings):
    """A host with the role logs."""

    name: str
    address: str = Field(description="Address at which the other hosts reach it.")


def log_nodes(inventory: Inventory) -> tuple[Node, ...]:
    """Return the hosts with the role logs, in file order."""
    return tuple(Node(name=name, address=inventory.internal(name)) for name in inventory.with_role("logs"))


def keeps_logs(inventory: Inventory, host: str) -> bool:
    """Return whether `host` has the role logs."""
    return "logs" in inventory.hosts[host].roles


def leads_logs(inventory: Inventory, host: str) -> bool:
    """Return whether `host` is the first log host, which creates users and templates and runs Kibana."""
    return keeps_logs(inventory, host) and next(iter(inventory.with_role("logs"))) == host


def elasticsearch_urls(nodes: tuple[Node, ...], host: str) -> tuple[str, ...]:
    """Return every Elasticsearch, as programs on `host` address it: its own first, over loopback."""
    own = (f"https://127.0.0.1:{ELASTICSEARCH_PORT}",)
    others = (node.address for node in nodes if node.name != host)
    return own + tuple(f"https://{host_and_port(address, ELASTICSEARCH_PORT)}" for address in others)


def logstash_addresses(nodes: tuple[Node, ...]) -> tuple[str, ...]:
    """Return the `address:port` of every Logstash, at which any Filebeat reaches it."""
    return tuple(host_and_port(node.address, BEATS_PORT) for node in nodes)


def certificate_names(address: str) -> tuple[str, ...]:
    """Return the names by which a service is reached, from its own host and from the others."""
    return ("127.0.0.1", "localhost", address)


def filebeat_subject(node: str) -> str:
    """Return the common name of a host's Filebeat, by which Logstash identifies the host of a line."""
    return f"filebeat.{node}"
