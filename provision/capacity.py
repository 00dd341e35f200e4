"""Whether hosts are large enough for what the inventory places on them. Pure.

From the inventory alone it is asked before any host is reached, with what hosts are declared to have; once a
host is reached, with what it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from deploys.component import Need
from deploys.disk.settings import lies_on_data_disk
from deploys.registry import COMPONENTS
from inventory.errors import CapacityError
from inventory.footprint import size
from inventory.model import Inventory
from inventory.values import size_in_bytes

HEADROOM_PERCENT = 10
"""Of a host's memory: page cache, logins, apt."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Something that a component takes of a host, and on which of its disks."""

    component: str
    need: Need
    on_data_disk: bool


@dataclass(frozen=True, slots=True)
class Capacity:
    """What is placed on a host, and what it has, in bytes; `None` where that is not known."""

    host: str
    placed: tuple[Placed, ...]
    memory: int | None
    gpu_memory: int | None
    declared: bool
    """Whether the sizes are those that the inventory declares."""
    alert_percent: float | None = None
    """Of memory in use, from which on people are told; `None` where nobody watches."""

    @property
    def memory_needed(self) -> int:
        """Bytes of memory, headroom left out."""
        return sum(item.need.memory for item in self.placed)

    @property
    def gpu_memory_needed(self) -> int:
        """Bytes of the GPUs' memory."""
        return sum(item.need.gpu_memory for item in self.placed)

    @property
    def headroom(self) -> int:
        """Bytes of memory that nothing is placed in."""
        return (self.memory or 0) * HEADROOM_PERCENT // 100

    def disk_needed(self, *, on_data_disk: bool) -> int:
        """Bytes on the system's or on the data disk."""
        return sum(item.need.disk for item in self.placed if item.on_data_disk is on_data_disk)


def capacity_of(
    inventory: Inventory, host: str, *, memory: int | None = None, gpu_memory: int | None = None
) -> Capacity:
    """What is placed on `host`, against `memory` and `gpu_memory` as found there, else as declared."""
    declared = inventory.hosts[host]
    watched = bool(inventory.with_role("monitoring"))
    return Capacity(
        host,
        placed_on(inventory if memory is None else _with_memory(inventory, host, memory), host),
        memory if memory is not None else _bytes(declared.memory),
        gpu_memory if gpu_memory is not None else _bytes(declared.gpu_memory),
        memory is None,
        inventory.monitoring.thresholds.memory_percent if watched else None,
    )


def placed_on(inventory: Inventory, host: str) -> tuple[Placed, ...]:
    """The needs of every component on `host`, in the order of components."""
    return tuple(
        Placed(component.name, need, lies_on_data_disk(inventory, host, need.path))
        for component in COMPONENTS
        for need in component.needs_for(inventory, host)
    )


def shortages(capacity: Capacity) -> Iterator[str]:
    """What does not fit into the host's memory or its GPUs', with the arithmetic."""
    whose = "declared" if capacity.declared else "found"
    if capacity.memory is not None and capacity.memory_needed + capacity.headroom > capacity.memory:
        rows = [
            *(_row(item.need.what, item.need.memory, item.need.how) for item in capacity.placed),
            _row("headroom", capacity.headroom, f"{HEADROOM_PERCENT} % of its memory"),
        ]
        yield "\n".join(
            [
                f"{capacity.host}: {size(capacity.memory_needed + capacity.headroom)} of memory are needed, "
                f"and it has {size(capacity.memory)} ({whose}):",
                *filter(None, rows),
                f"  → {_advice(capacity)}spread the roles over more hosts, or give it more memory",
            ]
        )
    if capacity.gpu_memory is not None and capacity.gpu_memory_needed > capacity.gpu_memory:
        rows = [_row(item.need.what, item.need.gpu_memory, item.need.how) for item in capacity.placed]
        yield "\n".join(
            [
                f"{capacity.host}: {size(capacity.gpu_memory_needed)} of GPU memory are needed, and it has "
                f"{size(capacity.gpu_memory)} ({whose}):",
                *filter(None, rows),
                "  → lower `parallel` or `context_size`, or take a smaller model or stronger quantisation",
            ]
        )


def warnings(capacity: Capacity) -> Iterator[str]:
    """What fits and yet would not leave people alone."""
    if not capacity.memory or capacity.alert_percent is None:
        return
    used = 100 * capacity.memory_needed / capacity.memory
    if used > capacity.alert_percent and capacity.memory_needed + capacity.headroom <= capacity.memory:
        yield (
            f"{capacity.host}: {size(capacity.memory_needed)} of its {size(capacity.memory)} of memory are "
            f"taken by what is placed there, {used:.1f} %: from {capacity.alert_percent:g} % on the alert "
            "MemoryHigh fires, and would not end; spread the roles over more hosts, give it more memory, or "
            "raise `monitoring.thresholds.memory_percent`"
        )


def refuse(inventory: Inventory, hosts: Iterable[str]) -> None:
    """Raises `CapacityError` with everything that hosts are too small for by what is declared of them."""
    found = [line for host in hosts for line in shortages(capacity_of(inventory, host))]
    if found:
        raise CapacityError("\n".join(found))


def _advice(capacity: Capacity) -> str:
    largest = max(capacity.placed, key=lambda item: item.need.memory)
    if largest.component != "model":
        return ""
    return "lower `parallel` or `context_size` of the model, take a smaller one, "


def _row(what: str, needed: int, how: str) -> str:
    return f"    {size(needed):>9}  {what}: {how}" if needed else ""


def _with_memory(inventory: Inventory, host: str, memory: int) -> Inventory:
    """As if `host` had been declared with the memory that was found: some components take a part of it."""
    found = inventory.hosts[host].model_copy(update={"memory": f"{memory >> 10}K"})
    return inventory.model_copy(update={"hosts": {**inventory.hosts, host: found}})


def _bytes(declared: str | None) -> int | None:
    return size_in_bytes(declared) if declared else None
