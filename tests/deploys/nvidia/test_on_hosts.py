"""The driver on real hosts, by plain pyinfra: a presented GPU, a stand-in repository, real apt and boots."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deploys.nvidia.settings import NvidiaSettings
from deploys.registry import BY_NAME
from provision.assignment import Assignment
from tests.deploys.nvidia import repository
from tests.deploys.nvidia.presented import LINE, MODPROBE, PRESENT, TREE, VERSION
from tests.hosts import Box, Host, boxes, in_every_run, on_hosts

pytestmark = on_hosts(seconds=300)

DISTRIBUTION = "/etc/apt/sources.list.d/distribution.list"
AT_BOOT = f"""[Unit]
Before=clawd-gpu.service
[Service]
Type=oneshot
ExecStart=/usr/local/sbin/modprobe nvidia
ExecStart=/bin/rm -rf {TREE}/run {TREE}/dev
[Install]
WantedBy=multi-user.target
"""


box = boxes("clnv", 175)


@dataclass(frozen=True)
class WithGpu(Host):
    """A host to which a GPU is presented, and the repositories it installs from."""

    repositories: str
    key: Path

    def up(self, **settings: Any) -> frozenset[str]:
        return self.apply(nvidia=self.settings(**settings))

    def refusal(self, **settings: Any) -> str:
        return self.refused(nvidia=self.settings(**settings))

    def data(self) -> dict[str, Any]:
        # Keeps apt from asking a proxy of this machine for the stand-in.
        return super().data() | {"apt_options": f"-o Acquire::http::Proxy::{self.box.machine}=DIRECT"}

    def settings(self, **changes: Any) -> NvidiaSettings:
        values = {
            "repository": f"{self.repositories}/driver",
            "key": str(self.key),
            "toolkit": True,
            "engine": True,
            "toolkit_repository": f"{self.repositories}/toolkit",
            "toolkit_key": str(self.key),
            "root": TREE,
        }
        return NvidiaSettings.model_validate(values | changes)

    def takes_headers(self) -> None:
        """From what stands for its distribution."""
        source = f"deb [trusted=yes] {self.repositories}/distribution ./"
        self.on(f"echo '{source}' > {DISTRIBUTION}; apt-get {self.data()['apt_options']} update -qq")

    def failing(self, **changes: Any) -> set[str]:
        return self.failing_checks(self.loaded(), Assignment(BY_NAME["nvidia"], self.settings(**changes)))

    def versions(self) -> dict[str, str]:
        rows = self.on("dpkg-query -W -f '${Package} ${db:Status-Status} ${Version}\\n'").splitlines()
        return {row.split()[0]: row.split()[2] for row in rows if row.split()[1] == "installed"}


@pytest.fixture(scope="module")
def repositories(box: Box) -> Iterator[tuple[str, Path]]:
    folder = box.folder / "repositories"
    key = repository.make(folder, platform.release())
    with repository.served(folder, box.machine) as address:
        yield address, key


@pytest.fixture(scope="module", params=in_every_run("trixie"))
def host(request: pytest.FixtureRequest, box: Box, repositories: tuple[str, Path]) -> WithGpu:
    host = WithGpu(box, box.named(request.param), *repositories)
    host.takes_headers()
    host.on("dpkg-query -W -f '${Package}\\n' > /root/packages; find /etc -type f | sort > /root/etc")
    host.on(
        f"mkdir -p {TREE}/sys/bus/pci/devices/0000:00:02.0; cd {TREE}/sys/bus/pci/devices/0000:00:02.0;"
        "echo 0x1234 > vendor; echo 0x1111 > device; echo 0x030000 > class"
    )
    return host


def present_gpu(host: WithGpu) -> None:
    host.on(PRESENT)


def test_host_without_gpu_skips_the_driver_with_a_reason(host: WithGpu) -> None:
    assert host.up() == {"Folder /var/lib/clawd/state", "No NVIDIA GPU: driver skipped"}
    assert host.up() == frozenset()
    assert host.failing() == set()
    assert host.failing(gpu="required") == {"gpu is there or the driver skipped with a reason"}
    assert "`gpu: required`, but no PCI device of NVIDIA" in host.refusal(gpu="required")


def test_secure_boot_is_refused(host: WithGpu) -> None:
    present_gpu(host)
    variable = f"{TREE}/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
    host.on(f"mkdir -p {TREE}/sys/firmware/efi/efivars; printf '\\006\\000\\000\\000\\001' > {variable}")
    assert "Secure Boot is on" in host.refusal()
    host.on(f"rm {variable}")


def test_missing_kernel_headers_are_refused(host: WithGpu) -> None:
    host.on(f"rm {DISTRIBUTION}; apt-get update -qq")
    message = host.refusal()
    assert f"have no linux-headers-{platform.release()}" in message
    assert host.name in message
    assert host.on("ls /etc/apt/sources.list.d") == ""
    host.takes_headers()


def test_driver_and_toolkit_are_installed_and_keep_their_versions(host: WithGpu) -> None:
    assert {"Driver in the kernel", "Service nvidia-persistenced"} <= host.up()
    installed = host.versions()
    drivers = {name: version for name, version in installed.items() if version.startswith(("580.", "590."))}
    assert set(drivers.values()) == {"580.95.05-1"}, "a newer branch was taken"
    assert {"nvidia-open", "nvidia-kernel-open-dkms", "nvidia-persistenced"} <= set(drivers)
    toolkit = {name: version for name, version in installed.items() if "container" in name}
    assert set(toolkit.values()) == {"1.18.0-1"}
    assert len(toolkit) == 4
    series = "13-1" if host.release == "trixie" else "12-9"
    assert {f"cuda-cudart-{series}", f"libcublas-{series}"} <= set(installed)
    host.on(f"test -f {TREE}/dev/nvidia-uvm && rm -r {TREE}/dev")
    assert host.up() == frozenset()
    assert host.failing() == set()
    upgrade = host.on("apt-get -s dist-upgrade | grep '^Inst.*nvidia-\\(open\\|driver\\)' || true")
    assert upgrade == "", "an upgrade would take the newer branch"


def test_checks_report_damage_and_up_repairs_it(host: WithGpu) -> None:
    host.on("systemctl stop nvidia-persistenced")
    assert host.failing() == {"persistence daemon runs"}
    assert host.up() == {"Service nvidia-persistenced"}
    host.on("systemctl stop clawd-gpu")
    assert host.failing() == {"cuda can begin"}
    assert host.up() == {"Service clawd-gpu"}
    host.on(f"mv {VERSION} /root/version")
    assert "driver sees every gpu" in host.failing()
    host.on(f"mv /root/version {VERSION}")
    assert host.failing() == set()


def test_driver_that_does_not_load_is_reported_without_advising_a_reboot(host: WithGpu) -> None:
    """As one that its modules were not built for: the next boot alone would not help."""
    host.on(f"mv {VERSION} /root/version; mv {MODPROBE} /root/modprobe")
    host.on(
        f"printf '#!/bin/sh\\necho not for this kernel >&2; exit 1\\n' > {MODPROBE}; chmod 755 {MODPROBE}"
    )
    message = host.refusal(reboot="ask")
    host.on(f"mv /root/version {VERSION}; mv /root/modprobe {MODPROBE}")
    assert "not for this kernel" in message
    assert f"driver 580.95.05 is installed, and kernel {platform.release()} does not load it" in message
    assert "starts with the next boot" not in message


def test_reboot_without_effect_is_not_repeated(host: WithGpu) -> None:
    """As where the initial file system loads another driver."""
    older, right = (shlex.quote(LINE.format(version)) for version in ("575.57.08", "580.95.05"))
    host.on(f"echo {older} > {VERSION}")
    boot = host.on("cat /proc/sys/kernel/random/boot_id")
    said = "driver 580.95.05 is installed, and a reboot did not bring it (now: 575.57.08)"
    assert said in host.refusal(reboot="auto")
    rebooted = host.on("cat /proc/sys/kernel/random/boot_id")
    assert rebooted != boot
    assert said in host.refusal(reboot="auto")
    assert host.on("cat /proc/sys/kernel/random/boot_id") == rebooted, "it was rebooted again"
    host.on(f"echo {right} > {VERSION}; rm -rf {TREE}/dev; systemctl restart clawd-gpu")
    assert host.up(reboot="auto") == frozenset()


def test_host_reboots_only_when_needed_and_allowed(host: WithGpu) -> None:
    older = shlex.quote(LINE.format("575.57.08"))
    host.on(f"echo {older} > {VERSION}")
    asked = host.refusal(reboot="ask")
    assert "driver 580.95.05 is installed and starts with the next boot (now: 575.57.08)" in asked
    assert host.failing() == {"driver is in the kernel"}
    assert host.up(reboot="never") == frozenset()
    right = shlex.quote(LINE.format("580.95.05"))
    host.on(
        f"echo {right} > {VERSION}; mkdir -p {TREE}/run; echo linux-image-x > {TREE}/run/reboot-required.pkgs"
    )
    assert host.up(reboot="ask") == frozenset()
    host.on(f"touch {TREE}/run/reboot-required")
    assert f"the system asks for a reboot ({TREE}/run/reboot-required: linux-image-x)" in host.refusal(
        reboot="ask"
    )
    assert host.failing() == {"driver is in the kernel"}
    assert host.up(reboot="never") == frozenset()
    host.on(
        f"printf %s {shlex.quote(AT_BOOT)} > /etc/systemd/system/kernel-stand-in.service;"
        "systemctl daemon-reload; systemctl enable kernel-stand-in"
    )
    boot = host.on("cat /proc/sys/kernel/random/boot_id")
    host.up(reboot="auto")
    assert host.on("cat /proc/sys/kernel/random/boot_id") != boot, "it was not rebooted"
    assert host.failing() == set()
    host.on(f"test -f {TREE}/dev/nvidia-uvm")
    boot = host.on("cat /proc/sys/kernel/random/boot_id")
    assert host.up(reboot="auto") == frozenset()
    assert host.on("cat /proc/sys/kernel/random/boot_id") == boot
    host.on("systemctl disable kernel-stand-in; rm /etc/systemd/system/kernel-stand-in.service")


def test_changed_branch_replaces_the_driver(host: WithGpu) -> None:
    variable = f"{TREE}/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
    host.on(f"printf '\\006\\000\\000\\000\\001' > {variable}")
    assert host.up() == frozenset(), "what runs may stay"
    assert "580.95.05 is loaded, and would be gone at the next boot" in host.refusal(branch=590)
    assert host.versions()["nvidia-open"] == "580.95.05-1", "it was removed first"
    host.on(f"rm {variable}; rm {VERSION}")
    host.up(branch=590)
    assert host.versions()["nvidia-open"] == "590.44.01-1"
    assert host.failing(branch=590) == set()
    assert host.failing() == {"driver is of the declared branch"}
    assert host.up(branch=590) == frozenset()


def test_removal_leaves_nothing(host: WithGpu) -> None:
    assert host.remove("nvidia")
    assert not host.remove("nvidia"), "removed again"
    assert host.on("dpkg-query -W -f '${Package}\\n' | diff /root/packages - || true") == ""
    assert host.on("find /etc -type f | sort | diff /root/etc - || true") == ""
    assert host.on("find /var/lib/clawd -type f") == ""
