from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from provision.sandbox.hosts import cgroups
from provision.sandbox.hosts.cgroups import Hierarchy, hierarchies

VERSION_1_MOUNTS = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:7 - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,release_agent=/bin/x,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""


def test_hierarchies_of_version_1_are_found_per_controller() -> None:
    groups = "9:name=systemd:/\n4:memory:/job/7\n1:cpu,cpuacct:/\n7:blkio:/\n0::/\n"
    assert hierarchies(groups, VERSION_1_MOUNTS) == (
        Hierarchy(frozenset({"name=systemd"}), Path("/sys/fs/cgroup/systemd")),
        Hierarchy(frozenset({"memory"}), Path("/sys/fs/cgroup/memory/job/7")),
        Hierarchy(frozenset({"cpu", "cpuacct"}), Path("/sys/fs/cgroup/cpu")),
        Hierarchy(frozenset(), Path("/sys/fs/cgroup/unified")),
    )


def test_hierarchy_mounted_from_a_subgroup_is_found_relative_to_it() -> None:
    mounts = "30 23 0:26 /docker/1 /sys/fs/cgroup rw,nosuid - cgroup2 cgroup rw,nsdelegate\n"
    assert hierarchies("0::/docker/1/ssh\n", mounts) == (Hierarchy(frozenset(), Path("/sys/fs/cgroup/ssh")),)


@pytest.fixture
def version_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Our group in a tree of version 2, on a machine without systemd."""
    monkeypatch.setattr(cgroups, "machine_runs_systemd", lambda: False)
    monkeypatch.setattr(cgroups, "_ours", lambda: (Hierarchy(frozenset(), tmp_path),))
    for folder in (tmp_path, tmp_path / "clawd-sandbox"):
        folder.mkdir(exist_ok=True)
        (folder / "cgroup.controllers").write_text("cpu memory pids\n")
        (folder / "cgroup.subtree_control").write_text("\n")
    return tmp_path


def test_version_2_group_limits_memory_after_delegation(version_2: Path) -> None:
    (group,) = cgroups.make("clawdt-bot1", 1 << 30)
    assert group == version_2 / "clawd-sandbox" / "clawdt-bot1"
    assert (group / "memory.max").read_text() == str(1 << 30)
    for folder in (version_2, version_2 / "clawd-sandbox"):
        assert (folder / "cgroup.subtree_control").read_text() == "+memory"


def test_delegated_controllers_are_not_written_again(version_2: Path) -> None:
    for folder in (version_2, version_2 / "clawd-sandbox"):
        (folder / "cgroup.subtree_control").write_text("cpu memory\n")
    (group,) = cgroups.make("clawdt-bot1")
    assert (group / "memory.max").read_text() == str(cgroups.MEMORY_MAX)
    assert (version_2 / "cgroup.subtree_control").read_text() == "cpu memory\n"


def test_group_is_created_without_the_memory_controller(version_2: Path) -> None:
    (version_2 / "cgroup.controllers").write_text("pids\n")
    (group,) = cgroups.make("clawdt-bot1")
    assert group.is_dir()
    assert not (group / "memory.max").exists()


def test_group_with_processes_delegates_nothing(version_2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Path.write_text

    def refused(path: Path, *arguments: Any, **how: Any) -> int:
        if path == version_2 / "cgroup.subtree_control":
            raise OSError(errno.EBUSY, "Device or resource busy")
        return write(path, *arguments, **how)

    monkeypatch.setattr(Path, "write_text", refused)
    (group,) = cgroups.make("clawdt-bot1")
    assert group.is_dir()
    assert not (group / "memory.max").exists()
