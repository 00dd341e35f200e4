"""Which host runs which log programs, and by which addresses they reach each other. Pure."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr

from deploys.component import ComponentSettings
from inventory.model import Inventory
from inventory.sections.logs import ELASTIC_FINGERPRINT, ELASTIC_REPOSITORY, ElasticPackages
from inventory.values import size_in_bytes

ELASTICSEARCH_PORT = 9200
TRANSPORT_PORT = 9300
KIBANA_PORT = 5601
BEATS_PORT = 5044
LOGSTASH_API_PORT = 9600
MIB = 1 << 20
GIB = 1 << 30


class PackageSettings(ComponentSettings):
    """Where Elastic's packages come from. Paths are those of the laptop."""

    version: str = ElasticPackages().version
    mirror: str = ELASTIC_REPOSITORY
    key: Path | None = None
    fingerprint: str = ELASTIC_FINGERPRINT
    folder: Path | None = None
    proxy: str | None = None


class Node(ComponentSettings):
    """A host with the role logs."""

    name: str
    address: str = Field(description="Address at which the other hosts reach it.")


def nodes(inventory: Inventory) -> tuple[Node, ...]:
    """Return the hosts with the role logs, in file order."""
    return tuple(Node(name=name, address=inventory.internal(name)) for name in inventory.with_role("logs"))


def keeps_logs(inventory: Inventory, host: str) -> bool:
    """Return whether `host` has the role logs."""
    return "logs" in inventory.hosts[host].roles


def leads(inventory: Inventory, host: str) -> bool:
    """Return whether `host` is the first log host, which creates users and templates and runs Kibana."""
    return keeps_logs(inventory, host) and next(iter(inventory.with_role("logs"))) == host


def package_settings(inventory: Inventory) -> PackageSettings:
    """Return where the packages come from."""
    return PackageSettings.model_validate(inventory.logs.packages.model_dump())


def root_password(inventory: Inventory) -> SecretStr:
    """Return the password that the services' are derived from; the rules ensure that it is declared."""
    return inventory.logs.password or SecretStr("")


def elasticsearch_urls(nodes: tuple[Node, ...], host: str) -> tuple[str, ...]:
    """Return every Elasticsearch, as programs on `host` address it: its own first, over loopback."""
    own = (f"https://127.0.0.1:{ELASTICSEARCH_PORT}",)
    others = (node.address for node in nodes if node.name != host)
    return own + tuple(f"https://{bracketed(address)}:{ELASTICSEARCH_PORT}" for address in others)


def certificate_names(address: str) -> tuple[str, ...]:
    """Return the names by which a service is reached, from its own host and from the others."""
    return ("127.0.0.1", "localhost", address)


def filebeat_subject(node: str) -> str:
    """Return the common name of a host's Filebeat, by which Logstash identifies the host of a line."""
    return f"filebeat.{node}"


def bracketed(address: str) -> str:
    """Return an address in the form that URLs use."""
    return f"[{address}]" if ":" in address else address


def mebibytes(size: str | int) -> int:
    """Return a size in MiB, as Java's and Node's options take it."""
    return (size_in_bytes(size) if isinstance(size, str) else size) // MIB
