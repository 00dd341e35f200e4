from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from clawd_runtime.bot.service.metrics import Metrics, ProcessUsage
from clawd_runtime.bot.store.store import Depths

MEASURED = ("process_resident_memory_bytes", "process_open_fds")


def test_process_metrics_are_collected() -> None:
    shown = Metrics().render(Depths(0, {})).decode()
    for name in (*MEASURED, "process_cpu_seconds_total"):
        assert f"\n{name} " in shown


def test_process_metrics_with_procsubset_pid(tmp_path: Path) -> None:
    (tmp_path / "self").symlink_to("/proc/self")
    registry = CollectorRegistry()
    registry.register(ProcessUsage(tmp_path))
    memory, files = (registry.get_sample_value(name) for name in MEASURED)
    assert memory == pytest.approx(_resident(), rel=0.2)
    assert files
    assert files >= 3


def test_no_process_metrics_without_proc(tmp_path: Path) -> None:
    assert list(ProcessUsage(tmp_path).collect()) == []


def _resident() -> float:
    status = Path("/proc/self/status").read_text()
    return 1024 * float(status.partition("VmRSS:")[2].split()[0])
