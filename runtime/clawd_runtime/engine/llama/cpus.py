"""The number of compute threads that this process can keep busy.

With more threads than free processors, every step waits for the slowest thread (over a second was measured).
"""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")


def usable_cpus(cgroup_root: Path = CGROUP_ROOT, own_cgroup: Path = Path("/proc/self/cgroup")) -> int:
    """Return the number of usable processors: the affinity, limited by `cpu.max` (systemd: CPUQuota)."""
    allowed = len(os.sched_getaffinity(0))
    quota = _tightest_quota(cgroup_root, own_cgroup)
    return max(1, min(allowed, math.floor(quota))) if quota is not None else allowed


def _tightest_quota(root: Path, own_cgroup: Path) -> float | None:
    """Return the lowest limit of this cgroup (version 2) and its parents in processors, `None` for none."""
    try:
        path = own_cgroup.read_text().strip().rpartition("::")[2].lstrip("/")
    except OSError:
        return None
    folders = [root / path, *(root / path).parents]
    limits = [_quota(folder / "cpu.max") for folder in folders if folder.is_relative_to(root)]
    return min((limit for limit in limits if limit is not None), default=None)


def _quota(file: Path) -> float | None:
    """Return the processors that a `cpu.max` file allows: `QUOTA PERIOD` in microseconds, or `max PERIOD`."""
    try:
        quota, period = file.read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return None
