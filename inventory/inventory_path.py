"""Resolution of the value of `--inventory` to a file."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

from inventory.errors import ClawdError

FOLDER = "inventory"
ENDINGS = (".yml", ".yaml")


def find(name: str, start: Path | None = None) -> Path:
    """Return the inventory file that `name` refers to.

    `name` is a path when that file exists or it ends in .yml or .yaml, else `inventory/<name>.yml` in `start`
    (the current folder by default) or in the nearest parent that has it. Raises `ClawdError` with the names
    of the inventories that exist.
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
    """Return the inventories that have a name in `start`; of several with one name, the nearest."""
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
        advice = f"write {FOLDER}/{Path(name).stem}.yml, for example from a copy of example-prod.yml"
        return ClawdError(problem, advice=advice)
    near = get_close_matches(Path(name).stem if is_path else name, known, 1, 0.5)
    question = f"did you mean `{near[0]}`? " if near else ""
    listed = ", ".join(f"{other} ({_shortest(path)})" for other, path in sorted(known.items()))
    return ClawdError(problem, advice=f"{question}available: {listed}")


def folders(start: Path) -> Iterator[Path]:
    """Yield `inventory/` of `start` and of every parent folder, nearest first."""
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
    """Return the path relative to the current folder if it is inside, for readable messages."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
