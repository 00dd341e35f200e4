"""GPUs, presented as the kernel and nvidia-smi would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploys.exporters import gpu
from deploys.ops.paths.files import TEMPLATES

SMI = "0, NVIDIA L4, 61, 87, 10240, 23034, 70.50, [N/A]\n1, NVIDIA L4, 44, 0, 1, 23034, 12.00, 0\n"


def measured(folder: Path, smi: str) -> str:
    """What the program writes when nvidia-smi is this script."""
    (folder / "nvidia-smi").write_text(f"#!/bin/sh\n{smi}")
    (folder / "nvidia-smi").chmod(0o755)
    output = folder / "clawd_gpu.prom"
    program = TEMPLATES / "exporters" / "gpu-metrics"
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    subprocess.run([sys.executable, "-I", program, output], env=environment, check=True)
    return output.read_text()


def test_output_of_nvidia_smi_becomes_metrics(tmp_path: Path) -> None:
    metrics = measured(tmp_path, f"printf '%s' '{SMI}'\n").splitlines()
    assert 'clawd_gpu_temperature_celsius{gpu="0",name="NVIDIA L4"} 61' in metrics
    assert 'clawd_gpu_utilization_ratio{gpu="0",name="NVIDIA L4"} 0.87' in metrics
    assert 'clawd_gpu_memory_used_bytes{gpu="0",name="NVIDIA L4"} 1.07374e+10' in metrics
    assert [line for line in metrics if line.startswith("clawd_gpu_ecc")] == [
        'clawd_gpu_ecc_errors_uncorrected{gpu="1",name="NVIDIA L4"} 0'
    ]
    assert "clawd_gpu_up 1" in metrics


@pytest.mark.parametrize(
    "smi", ["echo 'NVIDIA-SMI has failed' >&2; exit 9\n", "echo 'No devices were found'\n"]
)
def test_failing_nvidia_smi_is_exported_as_gpu_down(tmp_path: Path, smi: str) -> None:
    metrics = measured(tmp_path, smi).splitlines()
    assert metrics == ["# TYPE clawd_gpu_up gauge", "clawd_gpu_up 0"]


def test_program_that_does_not_compile_does_not_go_live(tmp_path: Path) -> None:
    check = gpu.COMPILES.replace("{}", f'"{tmp_path}/program"')
    for text, status in (((TEMPLATES / "exporters/gpu-metrics").read_text(), 0), ("def", 1)):
        (tmp_path / "program").write_text(text)
        assert subprocess.run(["sh", "-c", check], capture_output=True).returncode == status
