"""Display of the capacity of hosts on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.text import Text

from inventory.model_files.footprint import size
from provision.preflight.capacity import HEADROOM_PERCENT, Capacity, warnings


def show_capacity(console: Console, capacities: Sequence[Capacity]) -> None:
    """Print for every host its components, what they need, and what the host has."""
    for capacity in capacities:
        console.print()
        for line in lines(capacity):
            console.print(line, soft_wrap=True)


def lines(capacity: Capacity) -> Iterator[Text]:
    """Yield the table of one host: memory, GPU memory if it is used, disk, and purpose."""
    on_gpu = capacity.gpu_memory_needed > 0

    def row(memory: str, gpu: str, disk: str, what: str, how: str, style: str = "") -> Text:
        columns = f"  {memory:>9}{f'{gpu:>11}' if on_gpu else ''}{disk:>15}  {what}"
        return Text(columns, style=style).append(f"  {how}" if how else "", style="dim")

    yield Text(capacity.host, style="bold")
    yield row("memory", "GPU", "disk", "what", "", "dim")
    for item in capacity.placed:
        need = item.need
        disk = f"data {_shown(need.disk)}" if item.on_data_disk and need.disk else _shown(need.disk)
        yield row(_shown(need.memory), _shown(need.gpu_memory), disk, need.what, need.how)
    memory, gpu_memory = capacity.resources.memory, capacity.resources.gpu_memory
    if memory:
        yield row(size(capacity.headroom), "", "", "headroom", f"{HEADROOM_PERCENT} % of its memory")
    system, data = (capacity.disk_needed(on_data_disk=where) for where in (False, True))
    needed = size(capacity.memory_needed + capacity.headroom)
    needed_gpu = size(capacity.gpu_memory_needed)
    also = f"and {size(data)} on the data disk" if data else ""
    yield row(needed, needed_gpu, size(system), "total", also, "bold")
    unknown = "declare `memory:` of the host to compare without a connection"
    has = size(memory.size) if memory else "?"
    has_gpu = size(gpu_memory.size) if gpu_memory else ""
    yield row(has, has_gpu, "", "available", "" if memory else unknown, "bold")
    for warning in warnings(capacity):
        yield Text(f"  {warning}", style="yellow")


def _shown(count: int) -> str:
    return size(count) if count else ""
