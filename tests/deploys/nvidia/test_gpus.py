"""GPUs found in sysfs, and the driver that fits them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from deploys.nvidia.gpus import Gpu, GpuMachine, GpuMachineFact, modules_for, parse, reboot_reason
from inventory.errors import ClawdError

# Device ids: https://pci-ids.ucw.cz
KEPLER, MAXWELL, PASCAL, VOLTA = 0x102D, 0x13F2, 0x1BB3, 0x1DB4  # K80, M60, P4, V100
TURING, AMPERE, HOPPER, ADA = 0x1EB8, 0x20B0, 0x2330, 0x27B8  # T4, A100, H100, L4
BLACKWELL, GEFORCE_50 = 0x2901, 0x2B85  # B200, RTX 5090
SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


def gpus(*devices: int) -> list[Gpu]:
    return [Gpu(f"0000:{number:02x}:00.0", device) for number, device in enumerate(devices, 1)]


def present(root: Path, address: str, vendor: str, device: str, kind: str) -> Path:
    folder = root / "sys/bus/pci/devices" / address
    folder.mkdir(parents=True)
    for name, value in (("vendor", vendor), ("device", device), ("class", kind)):
        (folder / name).write_text(f"{value}\n")
    return folder


def found(root: Path) -> GpuMachine:
    command = GpuMachineFact().command(str(root))
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    return parse(done.stdout.splitlines())


def test_gpus_are_nvidia_display_and_compute_devices(tmp_path: Path) -> None:
    present(tmp_path, "0000:00:02.0", "0x8086", "0x3e92", "0x030000")
    bound = present(tmp_path, "0000:01:00.0", "0x10de", "0x2204", "0x030000")
    present(tmp_path, "0000:01:00.1", "0x10de", "0x1aef", "0x040300")  # its sound
    present(tmp_path, "0000:02:00.0", "0x10de", "0x20b0", "0x030200")
    present(tmp_path, "0000:03:00.0", "0x10de", "0x1af1", "0x068000")  # a switch
    (bound / "driver").symlink_to("../../../bus/pci/drivers/nouveau")
    machine = found(tmp_path)
    assert machine.gpus == (Gpu("0000:01:00.0", 0x2204, "nouveau"), Gpu("0000:02:00.0", 0x20B0))
    assert (machine.secure_boot, machine.nouveau, machine.loaded) == (False, False, "")
    assert machine.kernel
    assert machine.system


def test_machine_without_pci_has_no_gpu(tmp_path: Path) -> None:
    machine = found(tmp_path)
    assert machine.gpus == ()
    assert machine.headers == "unknown", "not needed without a GPU"


# As dpkg-query of Debian 12 with its cloud kernel, and of Ubuntu 24.04 with the newer kernel, prints them.
DEBIAN = """\
installed linux-image-6.1.0-41-cloud-amd64 kmod, linux-base (>= 4.3~)
installed linux-image-cloud-amd64 linux-image-6.1.0-41-cloud-amd64 (= 6.1.158-1)
installed linux-image-amd64-dbg linux-image-6.1.0-41-amd64-dbg (= 6.1.158-1)
config-files linux-image-amd64 linux-image-6.1.0-40-amd64 (= 6.1.153-1)
"""
UBUNTU = """\
installed linux-image-6.14.0-36-generic kmod, linux-base, linux-modules-6.14.0-36-generic
installed linux-image-generic-hwe-24.04 linux-image-6.14.0-36-generic, linux-modules-extra-6.14.0-36-generic
installed linux-image-extra-virtual linux-image-generic
"""


@pytest.mark.parametrize(
    ("printed", "kernels"),
    [(DEBIAN, ("linux-image-cloud-amd64",)), (UBUNTU, ("linux-image-generic-hwe-24.04",)), ("", ())],
)
def test_kernel_packages_are_those_that_depend_on_a_kernel_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, printed: str, kernels: tuple[str, ...]
) -> None:
    programs(tmp_path, monkeypatch, **{"dpkg-query": f"cat <<'END'\n{printed}END"})
    assert found(tmp_path).kernels == kernels


@pytest.mark.parametrize(
    ("installed", "offered", "read", "headers"),
    [
        (True, False, True, "package"),
        (False, True, True, "package"),
        (False, False, True, "missing"),
        (False, False, False, "unknown"),
    ],
)
def test_headers_of_the_running_kernel_are_found(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    installed: bool,
    offered: bool,
    read: bool,
    headers: str,
) -> None:
    status = "installed" if installed else "not-installed"
    programs(
        tmp_path,
        monkeypatch,
        **{
            "dpkg-query": f"case $* in *linux-headers-*) echo {status};; esac",
            "apt-cache": f"[ {int(offered)} = 1 ]",
            "find": f"[ {int(read)} = 0 ] || echo /var/lib/apt/lists/x_Packages",
            "uname": "echo 6.1.0-0-nowhere",
        },
    )
    present(tmp_path, "0000:01:00.0", "0x10de", "0x20b0", "0x030200")
    assert found(tmp_path).headers == headers


def programs(folder: Path, monkeypatch: pytest.MonkeyPatch, **scripts: str) -> None:
    """These take the place of the machine's own."""
    (folder / "bin").mkdir()
    for name, script in scripts.items():
        (folder / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")


@pytest.mark.parametrize(
    ("line", "version"),
    [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 01:44:30 UTC 2024",
            "550.54.14",
        ),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.124.06  Release Build  (root@h)",
            "570.124.06",
        ),
    ],
)
def test_version_of_the_loaded_driver_is_read(tmp_path: Path, line: str, version: str) -> None:
    file = tmp_path / "proc/driver/nvidia/version"
    file.parent.mkdir(parents=True)
    file.write_text(f"{line}\nGCC version:  gcc version 12.2.0 (Debian 12.2.0-14) \n")
    assert found(tmp_path).loaded == version


@pytest.mark.parametrize(
    ("packages", "asked"),
    [
        (None, ""),
        ("", "an unnamed package"),
        ("libc6\ndbus\n", ""),
        ("dbus\nlinux-image-6.1.0-33-amd64\nnvidia-open\n", "linux-image-6.1.0-33-amd64 nvidia-open"),
    ],
    ids=["none", "not said", "others", "kernel and driver"],
)
def test_reboot_required_file_is_read(tmp_path: Path, packages: str | None, asked: str) -> None:
    (tmp_path / "run").mkdir()
    if packages is not None:
        (tmp_path / "run/reboot-required").write_text("*** System restart required ***\n")
        (tmp_path / "run/reboot-required.pkgs").write_text(packages)
    assert found(tmp_path).reboot_asked == asked


@pytest.mark.parametrize(("value", "on"), [(b"\x06\0\0\0\x01", True), (b"\x06\0\0\0\0", False)])
def test_secure_boot_variable_is_read(tmp_path: Path, value: bytes, on: bool) -> None:
    variable = tmp_path / SECURE_BOOT
    variable.parent.mkdir(parents=True)
    variable.write_bytes(value)
    assert found(tmp_path).secure_boot is on


@pytest.mark.parametrize(
    ("devices", "kind"),
    [
        ((TURING,), "open"),
        ((AMPERE, ADA), "open"),
        ((HOPPER,), "open"),
        ((BLACKWELL, GEFORCE_50), "open"),
        ((BLACKWELL, TURING), "open"),
        ((MAXWELL,), "proprietary"),
        ((PASCAL, TURING), "proprietary"),
        ((VOLTA, AMPERE), "proprietary"),
    ],
)
def test_gpu_generation_decides_the_kind_of_modules(devices: tuple[int, ...], kind: str) -> None:
    assert modules_for(gpus(*devices), 580, "auto") == kind


def test_declared_kind_of_modules_is_used() -> None:
    assert modules_for(gpus(TURING, HOPPER), 580, "proprietary") == "proprietary"


@pytest.mark.parametrize(
    ("devices", "branch", "wanted", "said"),
    [
        ((KEPLER,), 580, "auto", "has no driver any more"),
        ((VOLTA,), 590, "auto", "works with driver branch 580 and earlier only"),
        ((TURING, PASCAL), 590, "auto", "works with driver branch 580 and earlier only"),
        ((BLACKWELL,), 550, "auto", "works with driver branch 570 and later only"),
        ((VOLTA, BLACKWELL), 580, "auto", "no kind of kernel modules drives all"),
        ((BLACKWELL,), 580, "proprietary", "the proprietary kernel modules do not drive"),
        ((PASCAL,), 580, "open", "the open kernel modules do not drive"),
    ],
)
def test_modules_that_do_not_fit_are_refused(
    devices: tuple[int, ...], branch: int, wanted: str, said: str
) -> None:
    with pytest.raises(ClawdError, match=said):
        modules_for(gpus(*devices), branch, wanted)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("machine", "why"),
    [
        (GpuMachine(loaded="580.95.05"), None),
        (GpuMachine(loaded="575.57.08"), "the kernel has driver 575.57.08"),
        (GpuMachine(nouveau=True), "nouveau"),
        (GpuMachine(), "no NVIDIA driver yet"),
        (GpuMachine(loaded="580.95.05", reboot_asked="linux-image-6.1.0-33-amd64"), "linux-image-6.1.0-33"),
    ],
)
def test_reboot_is_needed_when_another_driver_is_loaded(machine: GpuMachine, why: str | None) -> None:
    said = reboot_reason(machine, "580.95.05")
    assert said is None if why is None else why in str(said)
