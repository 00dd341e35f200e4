"""How many compute threads this process may keep busy.

More threads than free processors make every step wait for the slowest (steps of over a second were seen).
"""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")


def usable_cpus(cgroup_root: Path = CGROUP_ROOT, own_cgroup: Path = Path("/proc/self/cgroup")) -> int:
    """Processors this process may use: its affinity, or less by a cgroup's `cpu.max` (systemd: CPUQuota)."""
    allowed = len(os.sched_getaffinity(0))
    quota = _tightest_quota(cgroup_root, own_cgroup)
    return max(1, min(allowed, math.floor(quota))) if quota is not None else allowed


def _tightest_quota(root: Path, own_cgroup: Path) -> float | None:
    """The least that our cgroup (version 2) or one above it allows, in processors; `None` for no limit."""
    try:
        path = own_cgroup.read_text().strip().rpartition("::")[2].lstrip("/")
    except OSError:
        return None
    folders = [root / path, *(root / path).parents]
    limits = [_quota(folder / "cpu.max") for folder in folders if folder.is_relative_to(root)]
    return min((limit for limit in limits if limit is not None), default=None)


def _quota(file: Path) -> float | None:
    """Processors that a `cpu.max` file allows: `QUOTA PERIOD` in microseconds, or `max PERIOD`."""
    try:
        quota, period = file.read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return None
