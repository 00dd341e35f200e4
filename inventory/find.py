"""From what follows `--inventory` to the file that is meant."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

from inventory.errors import ClawdError

FOLDER = "inventory"
ENDINGS = (".yml", ".yaml")


def find(name: str, start: Path | None = None) -> Path:
    """The inventory file that `name` means.

    A path when a file is there or it ends in .yml or .yaml, else `inventory/<name>.yml` in `start` (the
    current folder by default) or the nearest folder above that has it. Raises ClawdError, naming what exists.
    """
    start = start or Path.cwd()
    given = start / Path(name)
    if _is_file(given):
        return Path(name) if start == Path.cwd() else given
    if not name.endswith(ENDINGS):
        for folder in folders(start):
            for ending in ENDINGS:
                candidate = folder / f"{name}{ending}"
                if _is_file(candidate):
                    return _shortest(candidate)
    raise _not_found(name, start)


def inventories(start: Path | None = None) -> dict[str, Path]:
    """The inventories that can be called by name from `start`; the nearest of a name counts."""
    found: dict[str, Path] = {}
    for folder in folders(start or Path.cwd()):
        for file in sorted(folder.iterdir()):
            if file.suffix in ENDINGS and _is_file(file):
                found.setdefault(file.stem, file)
    return found


def _not_found(name: str, start: Path) -> ClawdError:
    known = inventories(start)
    is_path = name.endswith(ENDINGS)
    problem = f"there is no file {name}" if is_path else f"there is no inventory `{name}`"
    if not known:
        advice = f"write {FOLDER}/{Path(name).stem}.yml; example-prod.yml of this project shows how"
        return ClawdError(problem, advice=advice)
    near = get_close_matches(Path(name).stem if is_path else name, known, 1, 0.5)
    question = f"did you mean `{near[0]}`? " if near else ""
    listed = ", ".join(f"{other} ({_shortest(path)})" for other, path in sorted(known.items()))
    return ClawdError(problem, advice=f"{question}there are: {listed}")


def folders(start: Path) -> Iterator[Path]:
    """`inventory/` here and in every folder above, nearest first."""
    here = start.absolute()
    for folder in (here, *here.parents):
        if (folder / FOLDER).is_dir():
            yield folder / FOLDER


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _shortest(path: Path) -> Path:
    """Relative to the current folder where it lies inside, for messages that are easy to read."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
