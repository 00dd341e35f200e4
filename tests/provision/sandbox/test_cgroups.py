from __future__ import annotations

from pathlib import Path

from provision.sandbox.cgroups import Hierarchy, hierarchies

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
