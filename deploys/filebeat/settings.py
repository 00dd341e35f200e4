"""Settings of Filebeat: which lines a host sends, and to which Logstash. Pure."""

from __future__ import annotations

from pydantic import Field

from deploys.component import ComponentSettings, Need
from deploys.elastic import placement
from deploys.elastic.datasets import Dataset, datasets_of
from deploys.elastic.placement import MIB, PackageSettings
from deploys.resources import HostResources
from inventory.model import Inventory


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
    nodes = placement.nodes(inventory)
    if not nodes:
        return None
    return FilebeatSettings(
        project=inventory.project,
        node=host,
        address=inventory.internal(host),
        logstash=tuple(f"{placement.bracketed(node.address)}:{placement.BEATS_PORT}" for node in nodes),
        datasets=datasets_of(inventory, host),
        packages=placement.package_settings(inventory),
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
