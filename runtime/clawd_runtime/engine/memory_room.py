"""Whether a model fits into what its control groups leave, before it is loaded.

Without this check, the kernel would kill a process of the group while the model is loading: possibly another
engine that serves people.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clawd_runtime.errors import ModelError

CGROUPS = Path("/sys/fs/cgroup")
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class MemoryRoom:
    """The bytes that a control group leaves to its processes."""

    group: str
    limit: int
    used: int

    @property
    def left(self) -> int:
        """Return the bytes that are left."""
        return max(0, self.limit - self.used)


def require_room(needed: int | None, *, own: Path = Path("/proc/self/cgroup"), root: Path = CGROUPS) -> None:
    """Raise `ModelError` if a control group of this process has no room for `needed` bytes."""
    for room in rooms(own, root) if needed else ():
        if needed and needed > room.left:
            raise ModelError(
                f"cannot load the model: it needs {needed // MIB} MiB, and of the {room.limit // MIB} MiB of "
                f"{room.group} only {room.left // MIB} MiB are left",
                advice="remove another model of this host, lower `parallel` or `context_size`, or raise the "
                "limit",
            )


def rooms(own: Path, root: Path) -> tuple[MemoryRoom, ...]:
    """Return the limited control groups (version 2) of the process, the innermost first.

    Memory of files that the kernel can drop at any time does not count as used. Empty where there is none.
    """
    try:
        path = next(line[3:] for line in own.read_text().splitlines() if line.startswith("0::/"))
    except (OSError, StopIteration):
        return ()
    group = root / path.lstrip("/")
    found = []
    while group != root and group.is_relative_to(root):
        if (room := _room(group)) is not None:
            found.append(room)
        group = group.parent
    return tuple(found)


def _room(group: Path) -> MemoryRoom | None:
    try:
        limit = (group / "memory.max").read_text().strip()
        used = int((group / "memory.current").read_text())
        rows = (line.split() for line in (group / "memory.stat").read_text().splitlines())
        dropped = sum(int(value) for name, value in rows if name in ("inactive_file", "active_file"))
    except (OSError, ValueError):
        return None
    return None if limit == "max" else MemoryRoom(group.name, int(limit), max(0, used - dropped))
