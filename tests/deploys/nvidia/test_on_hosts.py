"""The driver on real hosts, by plain pyinfra: a presented GPU, a stand-in repository, real apt and boots."""

from __future__ import annotations

import json
import os
import platform
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from deploys.component import Component
from deploys.nvidia.settings import NvidiaSettings
from inventory.load import load
from provision import sandbox
from provision.sandbox import Layout
from provision.session import Assignment
from provision.verify import verify
from tests.deploys.nvidia import repository
from tests.deploys.test_on_hosts import Applied, Host

pytestmark = [
    pytest.mark.host,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="making hosts needs root"),
]
RELEASES = ("bookworm", "trixie")
TREE = "/presented"
VERSION = f"{TREE}/proc/driver/nvidia/version"
LINE = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {}  Release Build  (root@host)"
# Stand for the kernel, which loads the module that is installed when asked to, and at boot.
LOAD = f"""#!/bin/sh
installed=$(dpkg-query -W -f '${{db:Status-Status}} ${{Version}}\\n' nvidia-open |
    sed -n 's/^installed \\([0-9.]*\\).*/\\1/p')
[ "$installed" ] || exit 1
mkdir -p {TREE}/proc/driver/nvidia
echo "{LINE.format("$installed")}" > {VERSION}
"""
AT_BOOT = """[Service]
Type=oneshot
ExecStart=/usr/local/sbin/modprobe nvidia
[Install]
WantedBy=multi-user.target
"""


@dataclass
class WithGpu(Host):
    """A host to which a GPU is presented, and the repositories it installs from."""

    repositories: str
    key: Path

    def up(self, **settings: Any) -> Applied:
        process = self.start("deploys.nvidia.deploy.apply", nvidia=self.settings(**settings), **self.direct())
        output, _ = process.communicate(timeout=200)
        return Applied.read(process.returncode, output)

    def removed(self) -> Applied:
        process = self.start("deploys.nvidia.deploy.remove", **self.direct())
        output, _ = process.communicate(timeout=200)
        return Applied.read(process.returncode, output)

    def direct(self) -> dict[str, str]:
        """What keeps apt from asking a proxy of this machine for the stand-in."""
        return {"apt_options": f"-o Acquire::http::Proxy::{self.layout.machine_address}=DIRECT"}

    def settings(self, **changes: Any) -> dict[str, Any]:
        return {
            "repository": f"{self.repositories}/driver",
            "key": str(self.key),
            "toolkit": True,
            "toolkit_repository": f"{self.repositories}/toolkit",
            "toolkit_key": str(self.key),
            "root": TREE,
            **changes,
        }

    def failing(self, **changes: Any) -> set[str]:
        file = self.folder / f"{self.name}.yml"
        one = {"address": self.address, "user": "operator", "ssh_key": str(self.layout.key)}
        model = {"engine": "openai-compatible", "endpoint": "http://127.0.0.1:1/v1"}
        known = str(self.layout.known_hosts)
        file.write_text(
            json.dumps({"known_hosts": known, "hosts": {self.name: one}, "models": {"default": model}})
        )
        settings = NvidiaSettings.model_validate(self.settings(**changes))
        found = verify(load(file), {self.name: [Assignment(Component("nvidia", ""), settings)]})
        assert found.checks
        return {check.name for check in found.failed}

    def versions(self) -> dict[str, str]:
        rows = self.on("dpkg-query -W -f '${Package} ${db:Status-Status} ${Version}\\n'").splitlines()
        return {row.split()[0]: row.split()[2] for row in rows if row.split()[1] == "installed"}


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    folder = tmp_path_factory.mktemp("nvidia") / ".sandbox"
    box = Layout(folder, bridge="cldk", subnet=IPv4Network("10.213.90.0/24"), table="clawd_disk_test")
    try:
        sandbox.up(len(RELEASES), RELEASES, layout=box)
        yield box
    finally:
        sandbox.down(layout=box, purge=True)


@pytest.fixture(scope="module")
def repositories(box: Layout) -> Iterator[tuple[str, Path]]:
    folder = box.folder.parent / "repositories"
    key = repository.make(folder, platform.release())
    with repository.served(folder, str(box.machine_address)) as address:
        yield address, key


# One release in every test run, the other in campaigns.
HOSTS = (
    pytest.param("bot1", id="bookworm", marks=pytest.mark.campaign),
    pytest.param("bot2", id="trixie"),
)


@pytest.fixture(scope="module", params=HOSTS)
def host(request: pytest.FixtureRequest, box: Layout, repositories: tuple[str, Path]) -> WithGpu:
    host = WithGpu(request.param, box, box.folder.parent, *repositories)
    host.on(
        "apt-get update -qq; dpkg-query -W -f '${Package}\\n' > /root/packages;"
        "find /etc -type f | sort > /root/etc"
    )
    host.on(
        f"mkdir -p {TREE}/sys/bus/pci/devices/0000:00:02.0; cd {TREE}/sys/bus/pci/devices/0000:00:02.0;"
        "echo 0x1234 > vendor; echo 0x1111 > device; echo 0x030000 > class"
    )
    return host


def present_gpu(host: WithGpu) -> None:
    host.on(
        f"mkdir -p {TREE}/sys/bus/pci/devices/0000:01:00.0; cd {TREE}/sys/bus/pci/devices/0000:01:00.0;"
        "echo 0x10de > vendor; echo 0x1eb8 > device; echo 0x030200 > class;"
        f"printf %s {shlex.quote(LOAD)} > /usr/local/sbin/modprobe; chmod +x /usr/local/sbin/modprobe"
    )


def test_without_a_gpu_the_driver_is_skipped_and_why_is_said(host: WithGpu) -> None:
    run = host.up()
    assert run.succeeded, run.output
    assert run.changed == {"Folder /var/lib/clawd/state", "No NVIDIA GPU: driver skipped"}
    assert host.up().changed == frozenset()
    assert host.failing() == set()
    assert host.failing(gpu="required") == {"gpu is there or the driver skipped with a reason"}
    required = host.up(gpu="required")
    assert not required.succeeded
    assert "it must have an NVIDIA GPU, and no PCI device of NVIDIA" in required.output


def test_secure_boot_stops_it(host: WithGpu) -> None:
    present_gpu(host)
    variable = f"{TREE}/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
    host.on(f"mkdir -p {TREE}/sys/firmware/efi/efivars; printf '\\006\\000\\000\\000\\001' > {variable}")
    run = host.up()
    assert not run.succeeded
    assert "Secure Boot is on" in run.output
    host.on(f"rm {variable}")


def test_driver_and_toolkit_are_installed_and_keep_their_versions(host: WithGpu) -> None:
    run = host.up()
    assert run.succeeded, run.output
    assert {"Driver in the kernel", "Service nvidia-persistenced"} <= run.changed
    installed = host.versions()
    drivers = {name: version for name, version in installed.items() if version.startswith(("580.", "590."))}
    assert set(drivers.values()) == {"580.95.05-1"}, "a newer branch was taken"
    assert {"nvidia-open", "nvidia-kernel-open-dkms", "nvidia-persistenced"} <= set(drivers)
    toolkit = {name: version for name, version in installed.items() if "container" in name}
    assert set(toolkit.values()) == {"1.18.0-1"}
    assert len(toolkit) == 4
    second = host.up()
    assert second.succeeded, second.output
    assert second.changed == frozenset()
    assert host.failing() == set()
    upgrade = host.on("apt-get -s dist-upgrade | grep '^Inst.*nvidia-\\(open\\|driver\\)' || true")
    assert upgrade == "", "an upgrade would take the newer branch"


def test_damage_is_named_and_repaired(host: WithGpu) -> None:
    host.on("systemctl stop nvidia-persistenced")
    assert host.failing() == {"persistence daemon runs"}
    assert host.up().changed == {"Service nvidia-persistenced"}
    host.on(f"mv {VERSION} /root/version")
    assert "driver sees every gpu" in host.failing()
    host.on(f"mv /root/version {VERSION}")
    assert host.failing() == set()


def test_reboot_only_where_needed_and_allowed(host: WithGpu) -> None:
    older = shlex.quote(LINE.format("575.57.08"))
    host.on(f"echo {older} > {VERSION}")
    asked = host.up(reboot="ask")
    assert not asked.succeeded
    assert "driver 580.95.05 is installed and starts with the next boot (now: 575.57.08)" in asked.output
    assert host.failing() == {"driver is in the kernel"}
    never = host.up(reboot="never")
    assert never.succeeded, never.output
    assert never.changed == frozenset()
    host.on(
        f"printf %s {shlex.quote(AT_BOOT)} > /etc/systemd/system/kernel-stand-in.service;"
        "systemctl daemon-reload; systemctl enable kernel-stand-in"
    )
    boot = host.on("cat /proc/sys/kernel/random/boot_id")
    auto = host.up(reboot="auto")
    assert auto.succeeded, auto.output
    assert host.on("cat /proc/sys/kernel/random/boot_id") != boot, "it was not rebooted"
    assert host.failing() == set()
    boot = host.on("cat /proc/sys/kernel/random/boot_id")
    assert host.up(reboot="auto").changed == frozenset()
    assert host.on("cat /proc/sys/kernel/random/boot_id") == boot
    host.on("systemctl disable kernel-stand-in; rm /etc/systemd/system/kernel-stand-in.service")


def test_another_branch_takes_the_place_of_the_first(host: WithGpu) -> None:
    host.on(f"rm {VERSION}")
    run = host.up(branch=590)
    assert run.succeeded, run.output
    assert host.versions()["nvidia-open"] == "590.44.01-1"
    assert host.failing(branch=590) == set()
    assert host.failing() == {"driver is of the declared branch"}
    assert host.up(branch=590).changed == frozenset()


def test_removed_it_leaves_nothing(host: WithGpu) -> None:
    run = host.removed()
    assert run.succeeded, run.output
    assert host.removed().changed == frozenset()
    assert host.on("dpkg-query -W -f '${Package}\\n' | diff /root/packages - || true") == ""
    assert host.on("find /etc -type f | sort | diff /root/etc - || true") == ""
    assert host.on("find /var/lib/clawd -type f") == ""
