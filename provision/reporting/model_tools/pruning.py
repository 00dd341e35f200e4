"""Display of a pruned model."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from provision.model_tools.pruning import HONEST, PrunedModel
from provision.reporting.model_tools.quantisation import lines


def show_pruning(console: Console, made: PrunedModel) -> None:
    """Print the file, how many weights are zero, and what that does not bring."""
    *written, hint = lines(made.quantisation)
    for line in written:
        console.print(line, soft_wrap=True)
    console.print(
        Text(f"  zeros among the {made.prunable / 1e6:.1f} million weights of {made.pruned_tensors} tensors")
    )
    table = Table.grid(padding=(0, 2))
    for what, zeros in (
        ("before", made.zeros_before),
        (f"after pruning {made.share:.0%}", made.zeros_pruned),
        (f"in the file ({made.quantisation.kind})", made.zeros_written),
    ):
        table.add_row("", what, f"{zeros / made.prunable:.1%}")
    console.print(table)
    console.print(Text(f"note: {HONEST}", style="yellow"), soft_wrap=True)
    console.print(hint, soft_wrap=True)
