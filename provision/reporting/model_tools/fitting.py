"""Display of which tier runs on which host."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from inventory.model_files.footprint import size
from provision.model_tools.fitting import PROMPT, FitSettings, HostFit, TierFit

STYLES = {"good": "green", "slow": "yellow", "no": "red", "unknown": "dim"}


def show_fit(console: Console, found: Sequence[HostFit], settings: FitSettings) -> None:
    """Print a table for each host, with the reason for each tier, and how speeds are estimated."""
    console.print(
        Text(
            f"{settings.kind}, {settings.slots} conversations of {settings.context} tokens at the same time",
            style="dim",
        )
    )
    for item in found:
        console.print()
        console.print(Text(item.host, style="bold").append(f"  {_machine(item)}", style="not bold"))
        console.print(_table(item.tiers))
        console.print(Text(f"  {_advice(item)}"), soft_wrap=True)
    console.print()
    for line in _notes():
        console.print(Text(line, style="dim"), soft_wrap=True)


def _machine(item: HostFit) -> str:
    machine, resources = item.machine, item.machine.resources
    parts = [f"{machine.cores} cores" if machine.cores else "cores unknown"]
    parts.append(f"{size(resources.memory.size)} memory" if resources.memory else "memory unknown")
    if resources.gpu_memory:
        parts.append(f"{size(resources.gpu_memory.size)} GPU memory")
    return f"{', '.join(parts)} ({machine.source})"


def _table(tiers: Sequence[TierFit]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("")
    for what in ("tier", "like", "", "needs", "of"):
        table.add_column(what, justify="right" if what in ("needs", "of") else "left", no_wrap=True)
    for what in ("tokens/s", f"s to first ({PROMPT})"):
        table.add_column(what, justify="right", no_wrap=True)
    table.add_column("why", overflow="fold")
    for item in tiers:
        first = None if item.prompt is None else (PROMPT / item.prompt[1], PROMPT / item.prompt[0])
        table.add_row(
            "",
            item.tier,
            item.model,
            Text(item.verdict, style=STYLES[item.verdict]),
            size(item.needed),
            "?" if item.available is None else size(max(item.available, 0)),
            _range(item.generation),
            _range(first),
            f"on the {item.place}: {item.why}",
        )
    return table


def _range(values: tuple[float, float] | None) -> str:
    if values is None:
        return "?"
    low, high = (f"{value:.2g}" if value < 100 else f"{value:.0f}" for value in values)
    return low if low == high else f"{low}–{high}"


def _advice(item: HostFit) -> str:
    if not item.has_runtime:
        return "serves no model: it has no role `runtime`"
    if item.recommended:
        return f"recommended: {item.recommended}"
    if any(fit.verdict == "unknown" for fit in item.tiers):
        return "nothing can be recommended without its resources"
    return "no tier is comfortable here: use a smaller model (1 to 3B), a GPU, or a remote server"


def _notes() -> Iterator[str]:
    yield (
        "speeds are estimated for one conversation: 17 GB/s and 50 to 100 GFLOP/s a core (at most 80 GB/s), "
        "300 to 1000 GB/s and 20 to 100 TFLOP/s for a GPU"
    )
    yield "the true speed: clawd-provision model evaluate FILE on such a machine"
