"""Claims of sandboxes on this machine: which sandbox uses which bridge, and how long.

They are stored in `/run`, which a reboot empties, just as it ends the hosts.
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
from provision.sandbox.process import ProcessIdentity, alive, started

FOLDER = Path("/run/clawd-sandbox")
PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class BridgeClaim:
    """A bridge in use: its sandbox, and the process and the project folder that created it.

    A `lasting` claim outlives the process that made it.
    """

    layout: Layout
    project: Path
    maker: ProcessIdentity
    lasting: bool

    @property
    def in_hand(self) -> bool:
        """Return whether the run that made it continues."""
        return alive(self.maker)

    @property
    def abandoned(self) -> bool:
        """Return whether no run will remove it: its run has ended, or the folder of its hosts was removed."""
        return not self.in_hand and not (self.lasting and self.layout.hosts.exists())


def claims() -> tuple[BridgeClaim, ...]:
    """Return all claims on this machine."""
    with held() as notes:
        return tuple(_parsed(bridge, entry) for bridge, entry in notes.get("bridges", {}).items())


def host_keys_on_this_machine() -> frozenset[str]:
    """Return the SSH host keys of the sandbox hosts on this machine, as algorithm and base64.

    Unlike an address, a key proves which host answers. Empty when the claims cannot be read.
    """
    try:
        notes: dict[str, Any] = json.loads((FOLDER / "sandboxes.json").read_text(encoding="utf-8"))
    except OSError:
        return frozenset()
    keys = set()
    for bridge, entry in notes.get("bridges", {}).items():
        with suppress(OSError):
            lines = _parsed(bridge, entry).layout.known_hosts.read_text(encoding="utf-8").splitlines()
            keys |= {" ".join(line.split()[1:3]) for line in lines}
    return frozenset(keys)


def is_ours(layout: Layout) -> bool:
    """Return whether objects with the names of `layout` belong to it and not to another sandbox."""
    for claim in claims():
        if claim.layout.bridge == layout.bridge:
            return claim.layout.folder == layout.folder
    return layout.hosts.is_dir()


def claim(layout: Layout, *, lasting: bool) -> None:
    """Record that `layout` is in use: by this process or, if `lasting`, until it is removed.

    A claim that was lasting before stays lasting.
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


def _parsed(bridge: str, entry: dict[str, Any]) -> BridgeClaim:
    layout = Layout(
        folder=Path(entry["folder"]), bridge=bridge, subnet=IPv4Network(entry["subnet"]), table=entry["table"]
    )
    return BridgeClaim(layout, Path(entry["project"]), ProcessIdentity(*entry["maker"]), entry["lasting"])


@contextmanager
def held() -> Iterator[dict[str, Any]]:
    """Yield the records as a mapping to change, locked for one process; an empty file is removed."""
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
            # The previous holder may have removed the file, and another process may hold a new one.
            if os.fstat(lock.fileno()).st_nlink:
                yield lock
                return


def _opened() -> TextIO:
    while True:
        FOLDER.mkdir(mode=0o755, exist_ok=True)
        with suppress(FileNotFoundError):
            return (FOLDER / "lock").open("a")
