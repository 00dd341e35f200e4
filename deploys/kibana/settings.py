"""Settings of Kibana, and which networks reach it. Pure."""

from __future__ import annotations

from pydantic import Field, SecretStr

from deploys.component import ComponentSettings, Need, Opening
from deploys.elastic.passwords import derived
from deploys.elastic.settings import PackageSettings, package_settings, root_password
from deploys.resources import HostResources
from deploys.topology.logs import KIBANA_PORT, elasticsearch_urls, leads_logs, log_nodes
from inventory.model import Inventory
from inventory.values import GIB, MIB, size_in_bytes

NATIVE = 256 * MIB
"""Memory of Node in addition to its heap."""
PROGRAM = 3 * GIB // 2


class KibanaSettings(ComponentSettings):
    """One Kibana."""

    project: str = "clawd"
    node: str
    address: str = Field(description="Address at which browsers of the networks in `sources` reach it.")
    elasticsearch: tuple[str, ...] = Field(
        min_length=1, description="URLs of Elasticsearch, its own host's first."
    )
    sources: tuple[str, ...] = Field((), description="Networks that may open it; loopback only when empty.")
    heap: str = "512M"
    password: SecretStr = Field(description="Password of `elastic`, to create its token and saved objects.")
    keys: dict[str, SecretStr] = Field(
        description="Keys that encrypt sessions, saved objects and reports, by the names of its settings."
    )
    packages: PackageSettings = PackageSettings()


ENCRYPTED = ("security", "encryptedSavedObjects", "reporting")


def settings_for(inventory: Inventory, host: str) -> KibanaSettings | None:
    """Return the Kibana of `host`; `None` except on the first host with the role logs."""
    if not leads_logs(inventory, host):
        return None
    root, project = root_password(inventory), inventory.project
    return KibanaSettings(
        project=project,
        node=host,
        address=inventory.internal(host),
        elasticsearch=elasticsearch_urls(log_nodes(inventory), host),
        sources=tuple(str(network) for network in inventory.logs.kibana_from),
        heap=inventory.logs.kibana_heap,
        password=derived(root, project, "elastic"),
        keys={name: derived(root, project, f"kibana {name}") for name in ENCRYPTED},
        packages=package_settings(inventory),
    )


def openings_for(inventory: Inventory, host: str) -> tuple[Opening, ...]:
    """Return Kibana's port, for the declared networks only."""
    sources = tuple(str(network) for network in inventory.logs.kibana_from)
    if not leads_logs(inventory, host) or not sources:
        return ()
    return (Opening(port=KIBANA_PORT, sources=sources, purpose="Kibana"),)


def ports_for(inventory: Inventory, host: str) -> tuple[int, ...]:
    """Return the port of its web pages, also where they are on loopback."""
    return (KIBANA_PORT,) if leads_logs(inventory, host) else ()


def needs_for(inventory: Inventory, host: str, _resources: HostResources) -> tuple[Need, ...]:
    """Return heap, memory of Node, and the program."""
    if not leads_logs(inventory, host):
        return ()
    heap = inventory.logs.kibana_heap
    return (
        Need(
            what="Kibana",
            memory=size_in_bytes(heap) + NATIVE,
            disk=PROGRAM,
            how=f"heap {heap} and {NATIVE // MIB} MiB for Node; {PROGRAM // MIB} MiB of program",
        ),
    )
