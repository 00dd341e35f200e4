"""State of the host that Elasticsearch depends on: memory, mappings, whether its cluster exists."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pyinfra import host
from pyinfra.api import StringCommand
from pyinfra.api.operation import OperationMeta

from deploys.ops.diff import operation, record
from deploys.ops.facts import Fact
from deploys.ops.programs import program
from deploys.ops.run_state import Change
from deploys.ops.shell import script

LEAST_MAP_COUNT = 262_144
"""Mappings of a process that Elasticsearch's bootstrap check requires where it maps its files."""
MAP_COUNT = 1_048_576
"""The value that its documentation recommends, "Increase virtual memory"."""
SYSCTL = "/etc/sysctl.d/60-clawd-elasticsearch.conf"
FORMED = "/var/lib/clawd/state/elasticsearch-formed"


@dataclass(frozen=True, slots=True)
class HostMemory:
    """Bytes of memory, the present `vm.max_map_count`, and whether the host allows changing it."""

    memory: int = 4 << 30
    map_count: int = 0
    settable: bool = True

    @property
    def maps_files(self) -> bool:
        """Return whether Elasticsearch can map its files; a container may be refused the setting for it."""
        return self.settable or self.map_count >= LEAST_MAP_COUNT


class HostMemoryFact(Fact):
    """The host as a `HostMemory`."""

    def command(self) -> str:
        """Return a script that reads /proc. A read-only /proc/sys is that of a container."""
        return (
            "awk '/^MemTotal:/ {print $2}' /proc/meminfo; cat /proc/sys/vm/max_map_count; "
            "if [ -w /proc/sys/vm/max_map_count ]; then echo yes; else echo no; fi"
        )

    @staticmethod
    def default() -> HostMemory:
        """Return a small machine."""
        return HostMemory()

    def process(self, output: list[str]) -> HostMemory:
        """Turn the three lines into a `HostMemory`."""
        return HostMemory(int(output[0]) * 1024, int(output[1]), output[2] == "yes")


def map_count(machine: HostMemory, **arguments: Any) -> OperationMeta:
    """Raise the kernel's limit at once; the file `SYSCTL` does it at boot."""
    return _map_count(machine, name="Mappings of a process", **arguments)


@operation
def _map_count(machine: HostMemory) -> Iterator[StringCommand]:
    if machine.settable and machine.map_count < LEAST_MAP_COUNT:
        record(Change("vm.max_map_count", (f"{machine.map_count} → {MAP_COUNT}",)))
        yield script('sysctl -q -w "vm.max_map_count=$count"', count=MAP_COUNT)


class FormedFact(Fact):
    """Whether this host belongs to a cluster that exists."""

    def command(self) -> str:
        """Return a script that looks for the note that was written when it joined."""
        return f"[ ! -f {FORMED} ] || echo yes"

    @staticmethod
    def default() -> bool:
        """Return that it does not."""
        return False

    def process(self, output: list[str]) -> bool:
        """Return whether the note is there."""
        return output[:1] == ["yes"]


def founded(config: str, node: str, alive: str, elsewhere: str, **arguments: Any) -> OperationMeta:
    """Have a cluster of several nodes: this one alone founds it, unless the other nodes have one.

    `cluster.initial_master_nodes` is in the configuration for this one start only: otherwise, a node whose
    disk was replaced would found a second cluster. `alive` and `elsewhere` are shell commands that succeed
    when this node is in a cluster, and when another one is.
    """
    return _founded(config, node, alive, elsewhere, name="Found the cluster")


@operation
def _founded(config: str, node: str, alive: str, elsewhere: str) -> Iterator[StringCommand]:
    if host.get_fact(FormedFact):
        return
    record(Change("cluster", (f"founded by {node}, or joined where it exists",)))
    yield script(
        _FOUND, config=config, node=node, alive=alive, elsewhere=elsewhere, formed=FORMED, note=FORMED_NOTE
    )


FORMED_NOTE = "this host belongs to a cluster that exists\n"
_FOUND = program("deploys/elasticsearch/scripts/found.sh")
