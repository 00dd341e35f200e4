"""Control groups of hosts on machines where systemd does not create them.

Two hosts in one group would treat each other's services as their own, so each host gets a group in every
hierarchy, below the group of this process. If the memory controller can be delegated, the group limits the
host's memory.
Source: cgroups(7); the kernel's admin-guide/cgroup-v1/{memory,cpusets} and admin-guide/cgroup-v2.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path

MEMORY_MAX = 4 * 1024**3
"""Bytes that a host may use, including its page cache: the size of a small rented server."""

WRITABLE_INIT = """\
for group in /sys/fs/cgroup/ /sys/fs/cgroup/*/; do
    if mountpoint -q "$group"; then mount -o remount,bind,rw "$group"; fi
done
exec /lib/systemd/systemd"""
"""The first program of a host with its own groups, which makes them writable.

nspawn (with version 1) and Docker mount them read-only, so that memory limits of services would have no
effect. systemd checks that only when it starts.
"""


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """One mounted cgroup tree, and the group of this process. `controllers` is empty for version 2."""

    controllers: frozenset[str]
    ours: Path


def machine_runs_systemd() -> bool:
    """Return whether systemd manages this machine's groups and gives nspawn one (sd_booted(3))."""
    return Path("/run/systemd/system").is_dir()


def hierarchies(cgroup: str, mountinfo: str) -> tuple[Hierarchy, ...]:
    """Return the trees of this process from the text of `/proc/self/cgroup` and `/proc/self/mountinfo`."""
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
    """Return root and mount point of each tree by its controllers."""
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
    """Create the groups of `machine` and return their folders; empty when systemd creates them."""
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
    """Return whether these groups of version 2, outermost first, delegate the memory controller.

    A group that contains processes cannot, unless it is the root group; then only the limit of this process
    applies to the memory of a host.
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
    """Return the existing groups of machines whose name begins with `prefix`."""
    found = (hierarchy.ours.glob(f"clawd-sandbox/{prefix}*") for hierarchy in _ours())
    return tuple(group for groups in found for group in groups if group.is_dir())


def _ours() -> tuple[Hierarchy, ...]:
    return hierarchies(Path("/proc/self/cgroup").read_text(), Path("/proc/self/mountinfo").read_text())


def _make_with_cpus(group: Path) -> None:
    """Create a group with processors and memory nodes, without which a cpuset accepts no process."""
    for folder in (group.parent, group):
        folder.mkdir(exist_ok=True)
        for name in ("cpuset.cpus", "cpuset.mems"):
            if not (folder / name).read_text().strip():
                (folder / name).write_text((folder.parent / name).read_text())
        (folder / "cgroup.clone_children").write_text("1")


def remove(groups: tuple[Path, ...], *, patience: float = 3.0) -> None:
    """Remove these groups, whose processes have ended, and their parent folder when it is empty."""
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
    # A group stays busy for a short time after its last process has ended.
    while folder.is_dir():
        try:
            folder.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                return
            time.sleep(0.02)
