from __future__ import annotations

import os

import pytest

from clawd_runtime.engine.llama.cpus import usable_cpus


@pytest.fixture
def cgroup(tmp_path):
    def make(limits: dict[str, str], own: str = "/system.slice/e.service"):
        root = tmp_path / "cgroup"
        for folder, limit in limits.items():
            (root / folder).mkdir(parents=True, exist_ok=True)
            (root / folder / "cpu.max").write_text(limit + "\n")
        own_file = tmp_path / "own"
        own_file.write_text(f"0::{own}\n")
        return root, own_file

    return make


@pytest.fixture(autouse=True)
def eight_cpus(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, 8),
        ({"system.slice/e.service": "max 100000"}, 8),
        ({"system.slice/e.service": "300000 100000"}, 3),
        ({"system.slice/e.service": "250000 100000"}, 2),
        ({"system.slice/e.service": "20000 100000"}, 1),
        ({"system.slice/e.service": "max 100000", "system.slice": "400000 100000"}, 4),
        ({"system.slice/e.service": "3200000 100000"}, 8),
    ],
)
def test_lowest_cgroup_limit_counts(cgroup, limits, expected):
    assert usable_cpus(*cgroup(limits)) == expected


def test_affinity_counts_without_cgroups(tmp_path):
    assert usable_cpus(tmp_path, tmp_path / "none") == 8
