"""Checks of GPU and driver. Where there is no GPU they hold: the note on the host says why it is skipped."""

from __future__ import annotations

from typing import Any

from deploys.nvidia.deploy import SKIPPED
from deploys.nvidia.gpus import Machine, MachineFact, reboot_reason
from deploys.nvidia.settings import NvidiaSettings


def test_gpu_is_there_or_the_driver_skipped_with_a_reason(host: Any, settings: NvidiaSettings) -> None:
    if machine(host, settings).gpus:
        assert not host.file(SKIPPED).exists, f"{SKIPPED} is of a time without GPU: run `up`"
        return
    assert settings.gpu != "required", "no NVIDIA GPU, and this host must have one"
    assert host.file(SKIPPED).contains("driver skipped: ")


def test_driver_is_of_the_declared_branch(host: Any, settings: NvidiaSettings) -> None:
    found = machine(host, settings)
    assert not found.gpus or found.installed.startswith(f"{settings.branch}."), found.installed or "no driver"


def test_driver_is_in_the_kernel(host: Any, settings: NvidiaSettings) -> None:
    found = machine(host, settings)
    why = reboot_reason(found, found.installed) if found.gpus else None
    assert why is None, f"{why}: reboot the host"


def test_driver_sees_every_gpu(host: Any, settings: NvidiaSettings) -> None:
    found = machine(host, settings)
    if not found.gpus:
        return
    # nvidia-smi ends with 9 when the driver has no GPU, and with others where it cannot be asked.
    listed = host.run("nvidia-smi --list-gpus")
    assert listed.rc == 0, f"nvidia-smi ends with {listed.rc}: {listed.stdout}{listed.stderr}"
    assert len(listed.stdout.splitlines()) == len(found.gpus), listed.stdout


def test_persistence_daemon_runs(host: Any, settings: NvidiaSettings) -> None:
    assert not machine(host, settings).gpus or host.service("nvidia-persistenced").is_running


def test_a_new_container_gets_the_gpu(host: Any, settings: NvidiaSettings) -> None:
    """A new one, because the GPU may be taken from running ones and nobody notice."""
    if not (settings.toolkit and machine(host, settings).gpus):
        return
    images = host.run("docker image ls --quiet").stdout.split()
    if images:
        command = "docker run --rm --network none --gpus all --entrypoint nvidia-smi %s --list-gpus"
        seen = host.run(command, images[0])
        assert seen.rc == 0, seen.stdout + seen.stderr


def machine(host: Any, settings: NvidiaSettings) -> Machine:
    """GPUs and driver of the host."""
    fact = MachineFact()
    return fact.process(host.check_output(fact.command(settings.root)).splitlines())
