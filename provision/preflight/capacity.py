"""Checks that hosts are large enough for what the inventory places on them. Pure.

Before any host is reached, the declared resources are checked; once a host is reached, its actual resources.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from deploys.component import Need
from deploys.disk.settings import lies_on_data_disk
from deploys.registry import COMPONENTS
from deploys.resources import HostResources
from deploys.topology.engines import ENGINES_PERCENT
from inventory.errors import CapacityError
from inventory.model import Inventory
from inventory.model_files.footprint import size

HEADROOM_PERCENT = 10
"""Share of a host's memory for page cache, logins and apt, in percent."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A need of a component on a host, and on which of its disks."""

    component: str
    need: Need
    on_data_disk: bool


@dataclass(frozen=True, slots=True)
class Capacity:
    """The needs on a host and its resources."""

    host: str
    placed: tuple[Placed, ...]
    resources: HostResources
    alert_percent: float | None = None
    """Memory use that triggers an alert, in percent; `None` without monitoring."""

    @property
    def memory_needed(self) -> int:
        """Return the needed bytes of memory without headroom."""
        return sum(item.need.memory for item in self.placed)

    @property
    def gpu_memory_needed(self) -> int:
        """Return the needed bytes of GPU memory."""
        return sum(item.need.gpu_memory for item in self.placed)

    @property
    def headroom(self) -> int:
        """Return the bytes of memory to keep free."""
        memory = self.resources.memory
        return memory.size * HEADROOM_PERCENT // 100 if memory else 0

    def disk_needed(self, *, on_data_disk: bool) -> int:
        """Return the needed bytes on the system disk or the data disk."""
        return sum(item.need.disk for item in self.placed if item.on_data_disk is on_data_disk)


def capacity_of(inventory: Inventory, host: str, resources: HostResources | None = None) -> Capacity:
    """Return the needs on `host` and its resources: `resources` where they were found, else as declared."""
    resources = resources or HostResources.declared(inventory.hosts[host])
    placed = tuple(
        Placed(component.name, need, lies_on_data_disk(inventory, host, need.path))
        for component in COMPONENTS
        for need in component.needs_for(inventory, host, resources)
    )
    watched = bool(inventory.with_role("monitoring"))
    return Capacity(
        host, placed, resources, inventory.monitoring.thresholds.memory_percent if watched else None
    )


def shortages(capacity: Capacity) -> Iterator[str]:
    """Yield a message with the arithmetic when the host's memory or GPU memory is too small."""
    memory, gpu_memory = capacity.resources.memory, capacity.resources.gpu_memory
    if memory and capacity.memory_needed + capacity.headroom > memory.size:
        rows = [
            *(_row(item.need.what, item.need.memory, item.need.how) for item in capacity.placed),
            _row("headroom", capacity.headroom, f"{HEADROOM_PERCENT} % of its memory"),
        ]
        yield "\n".join(
            [
                (
                    f"{capacity.host}: too little memory: {size(capacity.memory_needed + capacity.headroom)} "
                    f"needed, {size(memory.size)} {memory.source}:"
                ),
                *filter(None, rows),
                f"hint: {_advice(capacity)}distribute the roles to more hosts, or give it more memory",
            ]
        )
    engines = [item.need for item in capacity.placed if item.component == "model"]
    together = sum(need.memory for need in engines)
    budget = memory.size * ENGINES_PERCENT // 100 if memory else 0
    if memory and len(engines) > 1 and together > budget:
        yield "\n".join(
            [
                (
                    f"{capacity.host}: too little memory for its {len(engines)} models: {size(together)} "
                    f"needed, and their engines may use {size(budget)} together ({ENGINES_PERCENT} % of "
                    f"{size(memory.size)} {memory.source}):"
                ),
                *(_row(need.what, need.memory, need.how) for need in engines),
                "hint: remove one of them, lower `parallel` or `context_size`, or give the host more memory",
            ]
        )
    if gpu_memory and capacity.gpu_memory_needed > gpu_memory.size:
        rows = [_row(item.need.what, item.need.gpu_memory, item.need.how) for item in capacity.placed]
        yield "\n".join(
            [
                (
                    f"{capacity.host}: too little GPU memory: {size(capacity.gpu_memory_needed)} needed, "
                    f"{size(gpu_memory.size)} {gpu_memory.source}:"
                ),
                *filter(None, rows),
                "hint: lower `parallel` or `context_size`, or use a smaller model or stronger quantisation",
            ]
        )


def warnings(capacity: Capacity) -> Iterator[str]:
    """Yield a warning when everything fits, but the memory alert would fire permanently."""
    memory = capacity.resources.memory
    if not memory or not memory.size or capacity.alert_percent is None:
        return
    used = 100 * capacity.memory_needed / memory.size
    if used > capacity.alert_percent and capacity.memory_needed + capacity.headroom <= memory.size:
        yield (
            f"{capacity.host}: its components need {size(capacity.memory_needed)} of {size(memory.size)} "
            f"of memory, {used:.1f} %: the alert MemoryHigh would fire permanently from "
            f"{capacity.alert_percent:g} % on; distribute the roles to more hosts, give it more memory, or "
            "raise `monitoring.thresholds.memory_percent`"
        )


def refuse(inventory: Inventory, hosts: Iterable[str]) -> None:
    """Raise `CapacityError` with all shortages of the declared resources of hosts."""
    found = [line for host in hosts for line in shortages(capacity_of(inventory, host))]
    if found:
        raise CapacityError("\n".join(found))


def _advice(capacity: Capacity) -> str:
    largest = max(capacity.placed, key=lambda item: item.need.memory)
    if largest.component != "model":
        return ""
    return "lower `parallel` or `context_size` of the model, use a smaller one, "


def _row(what: str, needed: int, how: str) -> str:
    return f"    {size(needed):>9}  {what}: {how}" if needed else ""
