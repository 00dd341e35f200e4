"""Drawings of the dashboards, from the panels that Grafana is given; the curves are of no real host."""

from __future__ import annotations

import math
from html import escape
from zlib import crc32

from deploys.grafana.panels import Board, Panel, boards
from docs.generator.deployment import inventory

WIDTH, PER_ROW = 960, 3
PANEL_HEIGHT, TITLE, GAP = 150, 34, 10
COLOURS = ("#3d71d9", "#56a64b", "#e0752d", "#8f3bb8", "#c4162a")
STYLE = """<style>
text { font: 12px sans-serif; fill: #24292e } .title { font-size: 18px; font-weight: bold }
.row { font-weight: bold } .legend { font-size: 10px } .unit { font-size: 10px; fill: #6a737d }
</style>"""


def drawings() -> dict[str, str]:
    """Return an SVG of every dashboard, by file name."""
    return {
        f"dashboard-{board.uid}.svg": _board(board) for board in boards(inventory().monitoring.thresholds)
    }


def _board(board: Board) -> str:
    parts = [f'<text class="title" x="{GAP}" y="26">{escape(board.title)}</text>']
    top = 2 * TITLE - GAP
    for row in board.rows:
        parts.append(f'<text class="row" x="{GAP}" y="{top}">{escape(row.title)}</text>')
        top += GAP
        for at, panel in enumerate(row.panels):
            line, column = divmod(at, PER_ROW)
            width = (WIDTH - GAP) / PER_ROW - GAP
            parts.append(
                _panel(panel, GAP + column * (width + GAP), top + line * (PANEL_HEIGHT + GAP), width)
            )
        top += math.ceil(len(row.panels) / PER_ROW) * (PANEL_HEIGHT + GAP) + TITLE - GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top - TITLE + 2 * GAP}" role="img">'
        f"<title>{escape(board.title)}</title>{STYLE}"
        f'<rect width="100%" height="100%" fill="#f4f5f5"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _panel(panel: Panel, left: float, top: float, width: float) -> str:
    lines = [
        (
            f'<g transform="translate({left:.0f} {top})">'
            f'<rect width="{width:.0f}" height="{PANEL_HEIGHT}" fill="#fff" stroke="#d8d9da"/>'
        ),
        f'<text x="8" y="18">{escape(panel.title)}</text>',
        f'<text class="unit" x="{width - 8:.0f}" y="18" text-anchor="end">{escape(panel.unit)}</text>',
    ]
    if panel.limit is not None:
        lines.append(f'<path d="M8 40H{width - 8:.0f}" stroke="#c4162a" stroke-dasharray="4 3"/>')
        lines.append(
            f'<text class="unit" x="{width - 8:.0f}" y="36" text-anchor="end">limit {panel.limit:g}</text>'
        )
    for at, query in enumerate(panel.queries):
        colour = COLOURS[at % len(COLOURS)]
        lines.append(f'<path d="{_curve(panel.title, at, width - 16)}" fill="none" stroke="{colour}"/>')
        legend = query.legend.replace("{{", "").replace("}}", "")
        place = f'x="{8 + at * (width - 16) / len(panel.queries):.0f}" y="{PANEL_HEIGHT - 8}"'
        lines.append(f'<text class="legend" {place} style="fill:{colour}">{escape(legend)}</text>')
    return "".join(lines) + "</g>"


def _curve(title: str, at: int, width: float) -> str:
    phase = crc32(title.encode()) % 628 / 100
    points = (
        (
            8 + width * step / 24,
            92 + 10 * at - 20 * math.sin(phase + step / (3 + at)) - 6 * math.cos(2 * phase + step * 1.7 + at),
        )
        for step in range(25)
    )
    return "M" + " ".join(f"{x:.0f} {y:.0f}" for x, y in points)
