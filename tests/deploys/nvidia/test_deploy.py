"""What is done about a GPU, in which order, and where it stops."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deploys.nvidia import gpus, verify
from deploys.nvidia.deploy import apply
from deploys.nvidia.settings import NvidiaSettings
from deploys.ops.debian.packages import BroughtFact, WantedFact
from deploys.ops.facts import PackagesFact, PathFact, PathState, UnitFact, UnitState
from inventory.errors import HostError
from tests.deploys.harness import Machine, Run
from tests.deploys.nvidia.test_gpus import ADA, PASCAL

FOUND = gpus.GpuMachine(
    (gpus.Gpu("0000:01:00.0", ADA),), system="debian12", architecture="amd64", kernel="6.1.0-32-amd64"
)
RUNNING = replace(FOUND, loaded="580.95.05", installed="580.95.05", package="nvidia-open")
BARE: dict[Any, Any] = {
    PathFact: PathState(),
    PackagesFact: frozenset(),
    WantedFact: frozenset(),
    BroughtFact: None,
    UnitFact: UnitState(),
}


def plan(
    tmp_path: Path, machine: gpus.GpuMachine, facts: dict[Any, Any] | None = None, **changes: Any
) -> Run:
    key = tmp_path / "key.asc"
    key.write_bytes(b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n")
    settings = NvidiaSettings(key=key, **changes)
    known = {**BARE, gpus.GpuMachineFact: machine, **(facts or {})}
    return Machine({"nvidia": settings}, facts=known).run(apply, execute=False)


def in_order(run: Run, *ends: str) -> None:
    places = [next(at for at, name in enumerate(run.names) if name.endswith(end)) for end in ends]
    assert places == sorted(places), run.names


def test_first_installation_runs_operations_in_order(tmp_path: Path) -> None:
    in_order(
        plan(tmp_path, FOUND, engine=True),
        "Package repository nvidia",
        "Packages linux-headers-6.1.0-32-amd64",
        "Packages nvidia-driver-pinning-580",
        "Packages nvidia-open nvidia-modprobe nvidia-persistenced",
        "Packages cuda-cudart-12-9 libcublas-12-9",
        "Driver in the kernel",
        "Service nvidia-persistenced",
        "Write /etc/systemd/system/clawd-gpu.service",
        "Service clawd-gpu",
    )


def test_headers_package_of_the_next_kernels_is_installed(tmp_path: Path) -> None:
    kept = replace(FOUND, kernels=("linux-image-cloud-amd64",))
    in_order(plan(tmp_path, kept), "Packages linux-headers-6.1.0-32-amd64 linux-headers-cloud-amd64")


def test_custom_kernel_with_headers_needs_no_headers_package(tmp_path: Path) -> None:
    assert not [
        name for name in plan(tmp_path, replace(FOUND, headers="folder")).names if "linux-headers" in name
    ]


def test_missing_kernel_headers_are_refused_before_any_change(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"have no linux-headers-6\.1\.0-32-amd64") as caught:
        plan(tmp_path, replace(FOUND, headers="missing"))
    assert "`apt-get install linux-image-amd64`, then reboot" in str(caught.value.advice)


def test_pascal_gpu_gets_the_proprietary_modules(tmp_path: Path) -> None:
    old = replace(FOUND, gpus=(gpus.Gpu("0000:01:00.0", PASCAL),))
    run = plan(tmp_path, old, engine=True)
    in_order(
        run, "Packages nvidia-driver-pinning-580", "Packages cuda-drivers nvidia-modprobe nvidia-persistenced"
    )
    assert not [name for name in run.names if "nvidia-open" in name]
    assert any("cuda-cudart-12-9" in name for name in run.names)


def test_cuda_is_omitted_without_an_engine_on_the_gpu(tmp_path: Path) -> None:
    there = {UnitFact: UnitState(load="loaded", active="active", enabled="enabled")}
    run = plan(tmp_path, FOUND, there)
    assert not [name for name in run.names if "cuda-cudart" in name]
    assert ("clawd-gpu.service", ("stop and remove",)) in [
        (change.path, change.diff) for change in run.changes
    ]


def test_gpu_unknown_to_the_cuda_of_the_release_is_refused_before_any_change(tmp_path: Path) -> None:
    old = replace(FOUND, gpus=(gpus.Gpu("0000:01:00.0", PASCAL),), system="debian13")
    with pytest.raises(HostError, match="and earlier only"):
        plan(tmp_path, old, engine=True)
    assert plan(tmp_path, old).names


@pytest.mark.parametrize(
    ("machine", "branch"),
    [
        (FOUND, 580),
        (RUNNING, 590),  # the old branch's packages would go, and unsigned modules come
        (replace(RUNNING, package="cuda-drivers"), 580),  # other modules
        (replace(RUNNING, installed="", package=""), 580),  # another's driver
        (replace(RUNNING, loaded=""), 580),  # installed, and the kernel has refused it
    ],
    ids=["none", "another branch", "other modules", "not ours", "refused"],
)
def test_secure_boot_is_refused_when_modules_would_be_built(
    tmp_path: Path, machine: gpus.GpuMachine, branch: int
) -> None:
    with pytest.raises(HostError, match="Secure Boot is on") as caught:
        plan(tmp_path, replace(machine, secure_boot=True), branch=branch)
    if machine.loaded:
        assert "580.95.05 is loaded, and would be gone at the next boot" in caught.value.message
    assert f"branch {branch} by hand" in str(caught.value.advice)


def test_running_driver_is_kept_with_secure_boot(tmp_path: Path) -> None:
    assert "Packages nvidia-driver-pinning-580" in " ".join(
        plan(tmp_path, replace(RUNNING, secure_boot=True)).names
    )


class Checked:
    """A host as testinfra shows it: `answers` to commands that contain a word."""

    def __init__(self, machine: gpus.GpuMachine, **answers: tuple[int, str]) -> None:
        self.machine, self.answers = machine, answers
        self.asked: list[str] = []

    def check_output(self, command: str) -> str:
        assert "gpu ${device" in command
        return "\n".join(
            [
                *(f"gpu {gpu.address} {gpu.device:#06x}" for gpu in self.machine.gpus),
                "system debian12",
            ]
        )

    def run(self, command: str, *arguments: str) -> Any:
        whole = command % arguments if arguments else command
        self.asked.append(whole)
        rc, stdout = self.answers["image" if whole == verify.IMAGE else "run"]
        return SimpleNamespace(rc=rc, stdout=stdout, stderr="")


def test_check_fails_when_a_new_container_gets_no_gpu() -> None:
    settings = NvidiaSettings(toolkit=True, containers=True)
    good = Checked(FOUND, image=(0, "sha256:ab\n"), run=(0, "GPU 0: NVIDIA L4 (UUID: GPU-1)\n"))
    verify.test_a_new_container_gets_the_gpu(good, settings)
    assert good.asked[-1].startswith("docker run --rm ")
    assert "--gpus all --entrypoint nvidia-smi sha256:ab" in good.asked[-1]
    for answer in ((1, "could not select device driver"), (0, "")):
        with pytest.raises(AssertionError):
            verify.test_a_new_container_gets_the_gpu(
                Checked(FOUND, image=(0, "sha256:ab\n"), run=answer), settings
            )


def test_check_without_an_image_fails_or_is_skipped() -> None:
    none = {"image": (0, ""), "run": (0, "GPU 0: NVIDIA L4 (UUID: GPU-1)\n")}
    with pytest.raises(AssertionError, match="no image of clawd-runtime"):
        verify.test_a_new_container_gets_the_gpu(
            Checked(FOUND, **none), NvidiaSettings(toolkit=True, containers=True)
        )
    with pytest.raises(pytest.skip.Exception, match="not tried"):
        verify.test_a_new_container_gets_the_gpu(Checked(FOUND, **none), NvidiaSettings(toolkit=True))


def test_check_fails_without_a_driver() -> None:
    with pytest.raises(AssertionError, match="no driver is installed"):
        verify.test_driver_is_in_the_kernel(Checked(FOUND), NvidiaSettings())
