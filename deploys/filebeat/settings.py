"""Settings of Filebeat: which lines a host sends, and to which Logstash. Pure."""

from __future__ import annotations

from pydantic import Field

from deploys.component import ComponentSettings, Need
from deploys.elastic.datasets import Dataset, datasets_of
from deploys.elastic.settings import PackageSettings, package_settings
from deploys.resources import HostResources
from deploys.topology.logs import log_nodes, logstash_addresses
from inventory.model import Inventory
from inventory.values import MIB


class FilebeatSettings(ComponentSettings):
    """One Filebeat."""

    project: str = "clawd"
    node: str
    address: str
    logstash: tuple[str, ...] = Field(min_length=1, description="`address:port` of every Logstash.")
    datasets: tuple[Dataset, ...] = Field(min_length=1)
    packages: PackageSettings = PackageSettings()


def settings_for(inventory: Inventory, host: str) -> FilebeatSettings | None:
    """Return the lines that `host` sends; `None` when no host keeps log lines."""
    nodes = log_nodes(inventory)
    if not nodes:
        return None
    return FilebeatSettings(
        project=inventory.project,
        node=host,
        address=inventory.internal(host),
        logstash=logstash_addresses(nodes),
        datasets=datasets_of(inventory, host),
        packages=package_settings(inventory),
    )


def needs_for(inventory: Inventory, host: str, _resources: HostResources) -> tuple[Need, ...]:
    """Return its queue of lines in memory, and the program."""
    if settings_for(inventory, host) is None:
        return ()
    return (
        Need(
            what="Filebeat",
            memory=128 * MIB,
            disk=256 * MIB,
            how="128 MiB for Go and 3200 lines on their way; 256 MiB of program",
        ),
    )
