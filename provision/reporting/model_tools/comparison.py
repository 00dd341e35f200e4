"""Display of measured models, side by side."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from inventory.model_files.footprint import size
from provision.model_tools.evaluation import ModelEvaluation


def show_comparison(console: Console, found: Sequence[ModelEvaluation]) -> None:
    """Print a table with a column for each model, and what the figures mean."""
    table = Table(box=None, pad_edge=False)
    table.add_column("", style="dim")
    for item in found:
        table.add_column(Text(item.path.name), justify="right", overflow="fold")
    for what, values in rows(found):
        table.add_row(what, *values)
    console.print(table)
    for line in notes(found):
        console.print(Text(line, style="dim"), soft_wrap=True)


def rows(found: Sequence[ModelEvaluation]) -> list[tuple[str, list[str]]]:
    """Return the name and the values of each row."""
    return [
        ("type", [item.main_type for item in found]),
        ("file", [size(item.file_size) for item in found]),
        ("memory in use", [size(item.memory) for item in found]),
        ("perplexity", [f"{item.perplexity:.2f} ± {item.perplexity_error:.2f}" for item in found]),
        ("perplexity to the first", [_change(item) for item in found]),
        ("bits per byte", [f"{item.bits_per_byte:.3f}" for item in found]),
        ("same token as the first", [_agreement(item) for item in found]),
        ("questions right", [f"{item.right} of {item.questions}" for item in found]),
        ("prompt, tokens/s", [f"{item.prompt_speed:.0f}" for item in found]),
        ("generation, tokens/s", [f"{item.generation_speed:.1f}" for item in found]),
        ("load, s", [f"{item.load_seconds:.2f}" for item in found]),
    ]


def notes(found: Sequence[ModelEvaluation]) -> list[str]:
    """Return what the reader must know about the figures."""
    first = found[0]
    said = f"{first.tokens} tokens of text predicted, {first.threads} threads ({first.variant}); lower "
    said += "perplexity and bits per byte are better; speeds vary by 20 % between runs"
    lines = [said]
    if len({item.tokens for item in found}) > 1:
        lines.append(
            "these models have different tokenizers: compare bits per byte, not perplexity or tokens/s"
        )
    return lines


def _change(item: ModelEvaluation) -> str:
    against = item.against_first
    return f"{against.change:+.1%} ± {against.error:.1%}" if against else "–"


def _agreement(item: ModelEvaluation) -> str:
    return f"{item.against_first.agreement:.1%}" if item.against_first else "–"
