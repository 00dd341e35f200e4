"""Write the reference pages: `python -m docs.generator`; with `--check`, only report those that differ."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from docs.generator import alerts, commands, components, dashboards, hosts, metrics, settings

FOLDER = Path(__file__).resolve().parents[1] / "reference"
COMMAND = "make reference"


def pages(folder: Path) -> dict[str, str]:
    """Return the text of every reference page, by file name; `folder` has the pages as they stand."""
    return {
        "commands.md": commands.page(),
        "settings.md": settings.page(_present(folder / "settings.md")),
        "metrics.md": metrics.page(),
        "alerts.md": alerts.page(),
        "hosts.md": hosts.page(),
        "components.md": components.page(),
        **dashboards.drawings(),
    }


def _present(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.exists() else ""


def main() -> int:
    """Write or check the pages. Return 1 when `--check` finds one that differs."""
    parser = argparse.ArgumentParser(prog="python -m docs.generator", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; report pages that differ")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the pages are")
    arguments = parser.parse_args()
    made = pages(arguments.folder)
    differing = [name for name, text in made.items() if text != _present(arguments.folder / name)]
    if not arguments.check:
        for name in differing:
            (arguments.folder / name).write_text(made[name], encoding="utf-8")
        return 0
    for name in differing:
        print(f"docs/reference/{name}: out of date: it differs from what the code generates", file=sys.stderr)
    if differing:
        print(f"hint: run `{COMMAND}` and commit the result", file=sys.stderr)
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
