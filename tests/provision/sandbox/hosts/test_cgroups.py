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


def test_version_1_has_a_tree_for_each_controller() -> None:
    groups = "9:name=systemd:/\n4:memory:/job/7\n1:cpu,cpuacct:/\n7:blkio:/\n0::/\n"
    assert hierarchies(groups, VERSION_1_MOUNTS) == (
        Hierarchy(frozenset({"name=systemd"}), Path("/sys/fs/cgroup/systemd")),
        Hierarchy(frozenset({"memory"}), Path("/sys/fs/cgroup/memory/job/7")),
        Hierarchy(frozenset({"cpu", "cpuacct"}), Path("/sys/fs/cgroup/cpu")),
        Hierarchy(frozenset(), Path("/sys/fs/cgroup/unified")),
    )


def test_a_tree_mounted_from_within_is_entered_where_we_are() -> None:
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


def test_version_2_limits_memory_once_the_controller_is_handed_down(version_2: Path) -> None:
    (group,) = cgroups.make("clawdt-bot1", 1 << 30)
    assert group == version_2 / "clawd-sandbox" / "clawdt-bot1"
    assert (group / "memory.max").read_text() == str(1 << 30)
    for folder in (version_2, version_2 / "clawd-sandbox"):
        assert (folder / "cgroup.subtree_control").read_text() == "+memory"


def test_what_is_handed_down_already_is_left_alone(version_2: Path) -> None:
    for folder in (version_2, version_2 / "clawd-sandbox"):
        (folder / "cgroup.subtree_control").write_text("cpu memory\n")
    (group,) = cgroups.make("clawdt-bot1")
    assert (group / "memory.max").read_text() == str(cgroups.MEMORY_MAX)
    assert (version_2 / "cgroup.subtree_control").read_text() == "cpu memory\n"


def test_without_the_controller_a_host_has_its_group_all_the_same(version_2: Path) -> None:
    (version_2 / "cgroup.controllers").write_text("pids\n")
    (group,) = cgroups.make("clawdt-bot1")
    assert group.is_dir()
    assert not (group / "memory.max").exists()


def test_a_group_with_processes_hands_nothing_down(version_2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Path.write_text

    def refused(path: Path, *told: Any, **how: Any) -> int:
        if path == version_2 / "cgroup.subtree_control":
            raise OSError(errno.EBUSY, "Device or resource busy")
        return write(path, *told, **how)

    monkeypatch.setattr(Path, "write_text", refused)
    (group,) = cgroups.make("clawdt-bot1")
    assert group.is_dir()
    assert not (group / "memory.max").exists()
