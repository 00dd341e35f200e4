"""Settings of Logstash: from which hosts it takes lines, and where it sends them. Pure."""

from __future__ import annotations

from pydantic import Field, SecretStr

from deploys.component import ComponentSettings, Need, Opening
from deploys.elastic.datasets import Dataset, datasets_of
from deploys.elastic.passwords import derived
from deploys.elastic.settings import PackageSettings, package_settings, root_password
from deploys.resources import HostResources
from deploys.topology.logs import BEATS_PORT, LOGSTASH_API_PORT, elasticsearch_urls, keeps_logs, log_nodes
from inventory.model import Inventory
from inventory.values import GIB, MIB, size_in_bytes

QUEUE = 256 * MIB
"""Lines on disk that Elasticsearch has not taken yet."""
NATIVE = 384 * MIB
"""Memory of Java and JRuby in addition to the heap."""


class LogstashSettings(ComponentSettings):
    """One Logstash."""

    project: str = "clawd"
    node: str
    address: str = Field(description="Address at which Filebeat of other hosts reaches it.")
    senders: dict[str, tuple[Dataset, ...]] = Field({}, description="Hosts, each with its kinds of lines.")
    elasticsearch: tuple[str, ...] = Field(
        min_length=1, description="URLs of Elasticsearch, its own host's first."
    )
    time_zone: str = Field("Etc/UTC", description="Zone of the hosts: nginx logs errors in local time.")
    heap: str = "512M"
    password: SecretStr = Field(description="Password of `clawd_logstash` in Elasticsearch.")
    packages: PackageSettings = PackageSettings()


def settings_for(inventory: Inventory, host: str) -> LogstashSettings | None:
    """Return the Logstash of `host`; `None` without the role logs. Filebeat uses any of the log hosts."""
    if not keeps_logs(inventory, host):
        return None
    return LogstashSettings(
        project=inventory.project,
        node=host,
        address=inventory.internal(host),
        senders={name: datasets_of(inventory, name) for name in inventory.hosts},
        elasticsearch=elasticsearch_urls(log_nodes(inventory), host),
        time_zone=inventory.base.time_zone,
        heap=inventory.logs.logstash_heap,
        password=derived(root_password(inventory), inventory.project, "logstash"),
        packages=package_settings(inventory),
    )


def openings_for(inventory: Inventory, host: str) -> tuple[Opening, ...]:
    """Return the port of Filebeat, for the other hosts of the inventory."""
    others = tuple(inventory.internal(name) for name in inventory.hosts if name != host)
    if not keeps_logs(inventory, host) or not others:
        return ()
    return (Opening(port=BEATS_PORT, sources=others, purpose="Logstash, from Filebeat"),)


def ports_for(inventory: Inventory, host: str) -> tuple[int, ...]:
    """Return Filebeat's port, also where only this host sends lines, and that of its own API on loopback."""
    keeps = keeps_logs(inventory, host)
    return (BEATS_PORT, LOGSTASH_API_PORT) if keeps else ()


def needs_for(inventory: Inventory, host: str, _resources: HostResources) -> tuple[Need, ...]:
    """Return heap, memory of Java, program and queue."""
    if not keeps_logs(inventory, host):
        return ()
    heap = inventory.logs.logstash_heap
    return (
        Need(
            what="Logstash",
            memory=size_in_bytes(heap) + NATIVE,
            disk=GIB + QUEUE,
            how=f"heap {heap} and {NATIVE // MIB} MiB for Java and JRuby; 1 GiB of program, "
            f"{QUEUE // MIB} MiB of queue",
        ),
    )
