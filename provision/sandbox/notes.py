"""What the sandboxes of this machine know of each other: who has which bridge, and until when.

Kept in `/run`, which a restart of the machine empties as it ends the hosts.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, TextIO

from provision.sandbox.layout import Layout
from provision.sandbox.process import Process, alive, started

FOLDER = Path("/run/clawd-sandbox")
PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Claim:
    """A bridge that is in use: of which sandbox, made by which process of the program in which folder.

    A `lasting` one is meant to outlive whoever made it.
    """

    layout: Layout
    project: Path
    maker: Process
    lasting: bool

    @property
    def in_hand(self) -> bool:
        """Whether the run that made it goes on."""
        return alive(self.maker)

    @property
    def abandoned(self) -> bool:
        """Whether nobody will remove it any more: its run is over, or its hosts' folder was removed."""
        return not self.in_hand and not (self.lasting and self.layout.hosts.exists())


def claims() -> tuple[Claim, ...]:
    """All claims on this machine."""
    with held() as notes:
        return tuple(_parsed(bridge, entry) for bridge, entry in notes.get("bridges", {}).items())


def is_ours(layout: Layout) -> bool:
    """Whether what there is under the names of `layout` was made for it, and not for another sandbox."""
    for claim in claims():
        if claim.layout.bridge == layout.bridge:
            return claim.layout.folder == layout.folder
    return layout.hosts.is_dir()


def claim(layout: Layout, *, lasting: bool) -> None:
    """Note that `layout` is in use: by this process, or `lasting` until somebody removes it.

    What was meant to last once goes on to.
    """
    with held() as notes:
        bridges = notes.setdefault("bridges", {})
        before = bridges.get(layout.bridge)
        lasted = before is not None and before["folder"] == str(layout.folder) and before["lasting"]
        bridges[layout.bridge] = {
            "folder": str(layout.folder),
            "subnet": str(layout.subnet),
            "table": layout.table,
            "project": str(PROJECT),
            "maker": [os.getpid(), started(os.getpid())],
            "lasting": lasting or lasted,
        }


def _parsed(bridge: str, entry: dict[str, Any]) -> Claim:
    layout = Layout(
        folder=Path(entry["folder"]), bridge=bridge, subnet=IPv4Network(entry["subnet"]), table=entry["table"]
    )
    return Claim(layout, Path(entry["project"]), Process(*entry["maker"]), entry["lasting"])


@contextmanager
def held() -> Iterator[dict[str, Any]]:
    """The notes as a mapping to change, held by one process at a time; without content they vanish."""
    path = FOLDER / "sandboxes.json"
    with _locked() as lock:
        notes: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        yield notes
        if notes:
            half = path.with_suffix(".new")
            half.write_text(json.dumps(notes))
            half.rename(path)
        else:
            path.unlink(missing_ok=True)
            Path(lock.name).unlink()
            with suppress(OSError):
                FOLDER.rmdir()


@contextmanager
def _locked() -> Iterator[TextIO]:
    while True:
        with _opened() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Whoever had it before us may have removed it, and somebody else may hold its successor.
            if os.fstat(lock.fileno()).st_nlink:
                yield lock
                return


def _opened() -> TextIO:
    while True:
        FOLDER.mkdir(mode=0o755, exist_ok=True)
        with suppress(FileNotFoundError):
            return (FOLDER / "lock").open("a")
