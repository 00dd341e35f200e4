"""A plot of measured models as SVG: a panel of bars for each measurement.

Written by hand: bars with labels are 60 lines, and no plotting library is needed on every laptop for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from inventory.model_files.footprint import MIB
from inventory.reading.text import printable
from provision.model_tools.evaluation import ModelEvaluation

WIDTH, LABELS, VALUES = 720, 220, 90
BAR, GAP, HEAD = 16, 6, 26
COLOURS = ("#4c78a8", "#f58518", "#54a24b", "#e45756", "#72b7b2", "#b279a2")
LONGEST_NAME = 32


@dataclass(frozen=True, slots=True)
class BarPanel:
    """One measurement: its title, whether more is better, and its value for a model."""

    title: str
    better: str
    value: Callable[[ModelEvaluation], float]
    digits: int


PANELS = (
    BarPanel("perplexity", "lower is better", lambda item: item.perplexity, 2),
    BarPanel("bits per byte", "lower is better", lambda item: item.bits_per_byte, 3),
    BarPanel("questions right, %", "higher is better", lambda item: 100 * item.right / item.questions, 0),
    BarPanel("file, MiB", "lower is better", lambda item: item.file_size / MIB, 0),
    BarPanel("memory in use, MiB", "lower is better", lambda item: item.memory / MIB, 0),
    BarPanel("prompt, tokens/s", "higher is better", lambda item: item.prompt_speed, 0),
    BarPanel("generation, tokens/s", "higher is better", lambda item: item.generation_speed, 1),
)


def plot(found: Sequence[ModelEvaluation]) -> str:
    """Return the plot as an SVG document. Every bar of a panel has the same scale, from zero."""
    panel_height = HEAD + len(found) * (BAR + GAP) + 10
    height = len(PANELS) * panel_height + 10
    extent = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {extent} font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
    ]
    for number, panel in enumerate(PANELS):
        parts += _panel(panel, found, 10 + number * panel_height)
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: BarPanel, found: Sequence[ModelEvaluation], top: int) -> list[str]:
    values = [panel.value(item) for item in found]
    most = max(values) or 1.0
    better = f'<tspan font-weight="normal" fill="#666"> ({panel.better})</tspan>'
    parts = [f'<text x="10" y="{top + 14}" font-weight="bold">{escape(panel.title)}{better}</text>']
    for row, (item, value) in enumerate(zip(found, values, strict=True)):
        y = top + HEAD + row * (BAR + GAP)
        width = (WIDTH - LABELS - VALUES) * value / most
        name = printable(item.path.stem)
        colour = COLOURS[row % len(COLOURS)]
        shown = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
        parts += [
            f'<text x="{LABELS - 8}" y="{y + 12}" text-anchor="end">{escape(shown)}</text>',
            f'<rect x="{LABELS}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{colour}"/>',
            f'<text x="{LABELS + width + 6:.1f}" y="{y + 12}">{value:.{panel.digits}f}</text>',
        ]
    return parts
