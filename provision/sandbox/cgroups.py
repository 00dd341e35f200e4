"""A host's own control groups, where no systemd of this machine makes them.

Two hosts in one group would take each other's services for their own, so each gets a group
in every hierarchy, beneath the group we are in ourselves. Where the memory controller is
there and may be handed down, the group limits the host's memory.
Source: cgroups(7); the kernel's admin-guide/cgroup-v1/{memory,cpusets} and admin-guide/cgroup-v2.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path

MEMORY_MAX = 4 * 1024**3
"""Bytes a host may use, its page cache included: that of a small rented server."""

WRITABLE_INIT = """\
for group in /sys/fs/cgroup/ /sys/fs/cgroup/*/; do
    if mountpoint -q "$group"; then mount -o remount,bind,rw "$group"; fi
done
exec /lib/systemd/systemd"""
"""The first program of a host whose groups are its own alone, and which therefore may write them.

nspawn (with version 1) and Docker mount them read-only, and memory limits of services would
silently do nothing. systemd looks once, when it starts.
"""


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """One mounted cgroup tree, and where in it we are. `controllers` is empty for version 2."""

    controllers: frozenset[str]
    ours: Path


def machine_runs_systemd() -> bool:
    """Whether systemd manages this machine's groups, so that nspawn gets one from it (sd_booted(3))."""
    return Path("/run/systemd/system").is_dir()


def hierarchies(cgroup: str, mountinfo: str) -> tuple[Hierarchy, ...]:
    """The trees we are in, from the text of `/proc/self/cgroup` and `/proc/self/mountinfo`."""
    mounts = _mounts(mountinfo)
    found = []
    for line in cgroup.splitlines():
        _, names, path = line.split(":", 2)
        mount = mounts.get(frozenset(filter(None, names.split(","))))
        if mount is None:
            continue
        root, point = mount
        beneath = path.removeprefix(root) if root != "/" else path
        controllers = frozenset(filter(None, names.split(",")))
        found.append(Hierarchy(controllers, Path(point, beneath.lstrip("/"))))
    return tuple(found)


def _mounts(mountinfo: str) -> dict[frozenset[str], tuple[str, str]]:
    """Root and mount point of each tree, by its controllers."""
    mounts: dict[frozenset[str], tuple[str, str]] = {}
    for line in mountinfo.splitlines():
        front, _, back = line.partition(" - ")
        kind, _, options = back.split()[:3]
        root, point = front.split()[3:5]
        if kind == "cgroup2":
            mounts.setdefault(frozenset(), (root, point))
        elif kind == "cgroup":
            general = {"rw", "ro", "xattr", "clone_children", "noprefix"}
            names = frozenset(
                option for option in options.split(",") if option not in general and "_agent=" not in option
            )
            mounts.setdefault(names, (root, point))
    return mounts


def make(machine: str, memory_max: int = MEMORY_MAX) -> tuple[Path, ...]:
    """Make the groups of `machine` and return their folders; empty where systemd makes them."""
    if machine_runs_systemd():
        return ()
    groups = []
    for hierarchy in _ours():
        group = hierarchy.ours / "clawd-sandbox" / machine
        if "cpuset" in hierarchy.controllers:
            _make_with_cpus(group)
        group.mkdir(parents=True, exist_ok=True)
        if "memory" in hierarchy.controllers:
            (group / "memory.limit_in_bytes").write_text(str(memory_max))
        if not hierarchy.controllers and _hands_down_memory(hierarchy.ours, group.parent):
            (group / "memory.max").write_text(str(memory_max))
        groups.append(group)
    return tuple(groups)


def _hands_down_memory(*folders: Path) -> bool:
    """Whether these groups of version 2, outermost first, give the memory controller on to what is in them.

    A group that holds processes itself may not, unless it is the outermost of the machine; then a host's
    memory has no limit but the one we are under ourselves.
    """
    for folder in folders:
        try:
            if "memory" not in (folder / "cgroup.controllers").read_text().split():
                return False
            if "memory" not in (folder / "cgroup.subtree_control").read_text().split():
                (folder / "cgroup.subtree_control").write_text("+memory")
        except OSError:
            return False
    return True


def left(prefix: str) -> tuple[Path, ...]:
    """The groups there are of machines whose name begins so, even if nothing else is known of them."""
    found = (hierarchy.ours.glob(f"clawd-sandbox/{prefix}*") for hierarchy in _ours())
    return tuple(group for groups in found for group in groups if group.is_dir())


def _ours() -> tuple[Hierarchy, ...]:
    return hierarchies(Path("/proc/self/cgroup").read_text(), Path("/proc/self/mountinfo").read_text())


def _make_with_cpus(group: Path) -> None:
    """A cpuset takes no process before it has processors and memory nodes."""
    for folder in (group.parent, group):
        folder.mkdir(exist_ok=True)
        for name in ("cpuset.cpus", "cpuset.mems"):
            if not (folder / name).read_text().strip():
                (folder / name).write_text((folder.parent / name).read_text())
        (folder / "cgroup.clone_children").write_text("1")


def remove(groups: tuple[Path, ...], *, patience: float = 3.0) -> None:
    """Remove these groups, whose processes have ended, and our folder when it is left empty."""
    deadline = time.monotonic() + patience
    for group in groups:
        if not group.is_dir():
            continue
        folders = sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True)
        for folder in (*folders, group):
            _remove_folder(folder, deadline)
        with contextlib.suppress(OSError):
            group.parent.rmdir()


def _remove_folder(folder: Path, deadline: float) -> None:
    # A group stays busy for a moment after its last process has ended.
    while folder.is_dir():
        try:
            folder.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                return
            time.sleep(0.02)
