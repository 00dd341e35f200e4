"""Checks of GPU and driver. Without a GPU they pass: the note on the host has the reason."""

from __future__ import annotations

from typing import Any

import pytest

from deploys.nvidia.cuda import cuda_for
from deploys.nvidia.deploy import SKIPPED
from deploys.nvidia.gpus import GpuMachine, machine_of, reboot_reason
from deploys.nvidia.settings import NvidiaSettings
from deploys.ops.checks import expect, expect_unit, said
from deploys.ops.programs import program


def test_gpu_is_there_or_the_driver_skipped_with_a_reason(host: Any, settings: NvidiaSettings) -> None:
    if machine(host, settings).gpus:
        expect(not host.file(SKIPPED).exists, f"{SKIPPED} is of a time without GPU")
        return
    expect(settings.gpu != "required", "no NVIDIA GPU, and this host must have one")
    noted = host.file(SKIPPED).exists and host.file(SKIPPED).contains("driver skipped: ")
    expect(noted, f"{SKIPPED} does not say why the driver is skipped")


def test_driver_is_of_the_declared_branch(host: Any, settings: NvidiaSettings) -> None:
    found = machine(host, settings)
    of_branch = found.installed.startswith(f"{settings.branch}.")
    driver = found.installed or "missing"
    expect(not found.gpus or of_branch, f"the driver is {driver}, and should be of {settings.branch}")


def test_driver_is_in_the_kernel(host: Any, settings: NvidiaSettings) -> None:
    found = machine(host, settings)
    if not found.gpus:
        return
    expect(found.installed, "no driver is installed")
    why = reboot_reason(found, found.installed)
    expect(why is None, f"{why}", "reboot the host")


def test_driver_sees_every_gpu(host: Any, settings: NvidiaSettings) -> None:
    found = machine(host, settings)
    if not found.gpus:
        return
    # nvidia-smi exits with 9 when the driver has no GPU, with other codes when the driver does not answer.
    listed = host.run("nvidia-smi --list-gpus")
    expect(listed.rc == 0, f"nvidia-smi ends with {listed.rc}: {listed.stdout}{listed.stderr}")
    seen = len(listed.stdout.splitlines())
    expect(seen == len(found.gpus), f"the driver sees {seen} of {len(found.gpus)} GPUs", "see `dmesg`")


def test_persistence_daemon_runs(host: Any, settings: NvidiaSettings) -> None:
    if machine(host, settings).gpus:
        expect_unit(host, "nvidia-persistenced.service", at_boot=False)


def test_cuda_can_begin(host: Any, settings: NvidiaSettings) -> None:
    """Check that its libraries and device nodes exist; the engine itself reports whether it uses them."""
    found = machine(host, settings)
    if not (settings.engine and found.gpus):
        return
    cuda = cuda_for(found, settings.branch, settings.cuda)
    missing = [name for name in cuda.libraries if not host.package(name).is_installed]
    expect(not missing, f"not installed: {', '.join(missing)}")
    # It creates the device nodes of CUDA.
    expect_unit(host, "clawd-gpu.service")


def test_a_new_container_gets_the_gpu(host: Any, settings: NvidiaSettings) -> None:
    """Start a new one, because running ones may lose the GPU without notice."""
    found = machine(host, settings)
    if not (settings.toolkit and found.gpus):
        return
    image = host.run(IMAGE).stdout.strip()
    if not image:
        expect(
            not settings.containers, "there is no image of clawd-runtime to start a container with the GPU"
        )
        pytest.skip("not tried: engine and bot do not run in containers, so there is no image for the test")
    command = "docker run --rm --network none --gpus all --entrypoint nvidia-smi %s --list-gpus"
    seen = host.run(command, image)
    expect(seen.rc == 0, f"a new container does not get the GPU: {said(seen)}")
    count = len(seen.stdout.splitlines())
    expect(count == len(found.gpus), f"a new container sees {count} of {len(found.gpus)} GPUs")


IMAGE = program("deploys/nvidia/scripts/image.sh")


def machine(host: Any, settings: NvidiaSettings) -> GpuMachine:
    """Return GPUs and driver of the host."""
    return machine_of(host, settings.root)
