"""What makes a host unsuitable, and what is below recommendations."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from inventory.errors import CapacityError, HostError
from inventory.model import Inventory
from provision.connection.session import CommandResult
from provision.plan import HostResult, OperationFailure, Result, Status
from provision.preflight.capacity import capacity_of
from provision.preflight.doctor import PreflightFinding, examine, findings
from provision.preflight.facts import FileSystem, HostFacts, PortListener
from provision.steps import applying
from tests import ggufs

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
EPOCH = int(NOW.timestamp())
REMOTE = {"engine": "openai-compatible", "endpoint": "https://models.example.com/v1"}
DISK = FileSystem("/dev/sda1", 40_000, 20_000, 0)
FACTS = HostFacts(
    id="debian", version="12", architecture="x86_64", uid=0, cores=2, memory_mb=3900, gpu_memory_mb=0,
    epoch=EPOCH, init="systemd", components=frozenset(), file_systems=dict.fromkeys(
        ("/", "/opt/clawd", "/var/lib/clawd", "/var/lib/clawd/models"), DISK),
    listeners={22: PortListener("sshd", "ssh.service")}, mirrors={"192.0.2.80:80": True}, data_disk_mb=0,
)  # fmt: skip
INSTALLED = frozenset({"base", "firewall", "tls", "runtime", "nginx"})


def inventory(**host: Any) -> Inventory:
    declared = {"address": "192.0.2.1", "roles": ["runtime", "nginx"], **host}
    return Inventory.model_validate({"hosts": {"one": declared}, "models": {"default": REMOTE}})


def findings_for(
    facts: HostFacts = FACTS, of: Inventory | None = None, **changed: Any
) -> tuple[PreflightFinding, ...]:
    return findings(of or inventory(), "one", replace(facts, **changed), NOW)


def test_host_with_a_permanent_memory_alert_is_a_warning() -> None:
    hosts = {
        "one": {"address": "192.0.2.1", "roles": ["runtime", "nginx"]},
        "watch": {"address": "192.0.2.2", "roles": ["monitoring"]},
    }
    watched = Inventory.model_validate({"hosts": hosts, "models": {"default": REMOTE}})
    taken = capacity_of(watched, "one").memory_needed >> 20
    (finding,) = [
        item for item in findings_for(of=watched, memory_mb=taken * 5 // 4) if "MemoryHigh" in item.text
    ]
    assert not finding.refused
    assert not [item for item in findings_for(of=watched, memory_mb=taken * 2) if "MemoryHigh" in item.text]


def test_suitable_host_has_no_findings() -> None:
    assert findings_for() == ()


def test_model_for_a_missing_gpu_is_counted_in_host_memory(tmp_path: Path) -> None:
    path = ggufs.write(tmp_path / "m.gguf", ggufs.PROFESSIONAL)
    host = {"address": "192.0.2.1", "roles": ["runtime"], "gpu": "auto", "gpu_memory": "48G"}
    model = {"engine": "llama-cpp", "path": str(path), "memory_max": "60G"}
    declared = Inventory.model_validate({"hosts": {"one": host}, "models": {"default": model}})

    def short(**changed: Any) -> list[str]:
        found = findings_for(of=declared, memory_mb=32 << 10, **changed)
        return [item.text for item in found if "too little memory" in item.text]

    assert short(gpus=1) == short(gpus=None) == []
    (shortage,) = short(gpus=0)
    assert "needed, 32.0 GiB found" in shortage


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"version": "11"}, "debian 11 is not supported; use one of: debian 12, debian 13, ubuntu 22.04"),
        ({"id": "ubuntu", "version": "22.04"}, "ubuntu 22.04 has Python 3.10, but the bots need 3.11; use"),
        ({"architecture": "riscv64"}, "riscv64 is not supported; the bots run only on x86_64 and aarch64"),
        ({"uid": 1000}, "give the login sudo for all commands, without a password or with `sudo_password`"),
        ({"init": "tini"}, "its init is tini, not systemd"),
        ({"epoch": EPOCH + 3600}, "clock is 3600 s fast"),
        ({"epoch": EPOCH - 500}, "clock is 500 s slow"),
        ({"memory_mb": 700}, "needed, 700 MiB found"),
        ({"mirrors": {"192.0.2.80:80": False}}, "cannot reach 192.0.2.80:80 of its package sources"),
        (
            {"listeners": {443: PortListener("apache2", "apache2.service")}},
            "port 443, which nginx needs, is used by apache2 (apache2.service); stop that program",
        ),
        (
            {"listeners": {8080: PortListener("java", "")}},
            "port 8080, which runtime needs, is used by java; stop",
        ),
    ],
)
def test_unsuitable_host_is_refused_with_the_reason(changed: dict[str, Any], says: str) -> None:
    refused = [finding.text for finding in findings_for(**changed) if finding.refused]
    assert len(refused) == 1
    assert refused[0].startswith("one: ")
    assert says in refused[0]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"cores": 1}, "it has 1 core; at least 2 are recommended"),
        ({"memory_mb": 2000}, "2000 MB of memory; at least 4 GB are recommended"),
        (
            {"refused_settings": ("vm.x", "fs.y")},
            "it refuses the kernel settings vm.x, fs.y and keeps its own",
        ),
        ({"mirrors": {"a:80": False, "b:80": True}}, "cannot reach a:80 of its package sources"),
        (
            {"mirrors": {"a:80": False}, "components": INSTALLED},
            "cannot reach a:80 of its package sources",
        ),
        (
            {"file_systems": {path: replace(DISK, size_mb=20_000) for path in FACTS.file_systems}},
            "a system disk of 20000 MB; at least 30 GB are recommended",
        ),
    ],
)
def test_host_below_recommendations_is_a_warning(changed: dict[str, Any], says: str) -> None:
    (finding,) = findings_for(**changed)
    assert not finding.refused
    assert says in finding.text


def test_host_with_old_python_is_refused_for_containers_too() -> None:
    contained = inventory().model_copy(update={"runtime": SimpleNamespace(run_with="docker")})
    old = replace(FACTS, id="ubuntu", version="22.04")
    assert any("Python 3.10" in item.text for item in findings(contained, "one", old, NOW))


@pytest.mark.parametrize(
    "listeners",
    [
        {443: PortListener("nginx", "nginx.service"), 8080: PortListener("python3", "clawd-bot.service")},
        {8080: PortListener("python3", "docker/clawd-bot")},
        {9999: PortListener("java", "")},
    ],
)
def test_ports_held_by_own_services_are_no_finding(listeners: dict[int, PortListener]) -> None:
    assert findings_for(listeners=listeners) == ()


@pytest.mark.parametrize("unit", ["docker/web", "docker/", "docker.service"])
def test_port_held_by_a_foreign_container_is_refused(unit: str) -> None:
    (finding,) = findings_for(listeners={443: PortListener("docker-proxy", unit)})
    assert finding.refused
    assert f"port 443, which nginx needs, is used by docker-proxy ({unit})" in finding.text


def full(free_mb: int, **used: int) -> dict[str, FileSystem]:
    return {path: replace(DISK, free_mb=free_mb, used_mb=used.get(path, 0)) for path in FACTS.file_systems}


def test_too_little_disk_space_lists_its_parts() -> None:
    (finding,) = findings_for(file_systems=full(900))
    assert finding.capacity
    assert "not enough free space on /dev/sda1: 900 MB free, " in finding.text
    assert "(system 1000 MB + " in finding.text
    assert " + bot 480 MB + " in finding.text


def test_installed_components_need_little_disk_space() -> None:
    assert (
        findings_for(file_systems=full(200), components=INSTALLED | {"exporters", "filebeat", "hardening"})
        == ()
    )
    (finding,) = findings_for(
        file_systems=full(30), components=INSTALLED | {"exporters", "filebeat", "hardening"}
    )
    assert "30 MB free, 150 MB needed (state and journal of runs 150 MB)" in finding.text


def test_small_data_disk_is_a_warning() -> None:
    (finding,) = findings_for(of=inventory(disk={}), data_disk_mb=20_000)
    assert finding.text == "one: it has a data disk of less than the recommended 50 GB"


class Hosts:
    """Stands for a session whose hosts answer with what `probe` would print."""

    def __init__(self, **changed: str) -> None:
        self.output = PROBED.format(
            **{"epoch": int(datetime.now(UTC).timestamp()), "version": "12", **changed}
        )

        self.hosts = ("one", "two")
        self.silent: set[str] = set()

    def run(self, host: str, script: str, *, timeout: float) -> CommandResult:
        if host in self.silent:
            raise HostError(f"{host}: no answer within {timeout:.0f} s")
        return CommandResult(True, self.output, "")


PROBED = """\
id=debian
version={version}
architecture=x86_64
uid=0
cores=1
memory_kb=8000000
epoch={epoch}
init=systemd
components=base runtime
fs=/|/dev/sda1|40000|20000|0
data_disk_mb=0
"""


def examined(hosts: Hosts) -> list[str]:
    warnings: list[str] = []
    two = {"one": {"address": "192.0.2.1"}, "two": {"address": "192.0.2.2"}}
    both = Inventory.model_validate({"hosts": two, "models": {"default": REMOTE}})
    session: Any = hosts
    progress: Any = SimpleNamespace(warn=warnings.append)
    examine(both, session, progress)
    return warnings


def test_warnings_do_not_stop_the_run() -> None:
    assert [text.partition(":")[0] for text in examined(Hosts())] == ["one", "two"]


def test_findings_of_all_hosts_are_reported_at_once() -> None:
    with pytest.raises(HostError) as refused:
        examined(Hosts(version="11", epoch="0"))
    assert len(refused.value.message.splitlines()) == 4
    assert not isinstance(refused.value, CapacityError)


def test_findings_are_reported_although_another_host_does_not_answer() -> None:
    hosts = Hosts(version="11")
    hosts.silent = {"one"}
    with pytest.raises(HostError) as refused:
        examined(hosts)
    assert "one: no answer" in refused.value.message
    assert [line for line in refused.value.message.splitlines() if line.startswith("two: ")]


@pytest.mark.parametrize(
    ("component", "printed", "silent", "reported"),
    [
        ("base", "E: Unable to locate package ngnix", False, True),
        ("base", "E: Package 'ngnix' has no installation candidate", False, True),
        ("base", "E: Unable to locate package ngnix", True, False),
        ("base", "E: No space left on device", False, False),
        ("nginx", "E: Unable to locate package ngnix", False, False),
    ],
)
def test_missing_package_is_reported_by_up_when_the_plan_could_not_know(
    component: str, printed: str, silent: bool, reported: bool
) -> None:
    hosts = Hosts()
    hosts.output += "asked=package|ngnix||nginx ngetty \n"
    hosts.silent = {"one"} if silent else set()
    base = {"packages": ["htop", "ngnix"]}
    values = {"hosts": {"one": {"address": "192.0.2.1"}}, "models": {"default": REMOTE}, "base": base}
    loaded = SimpleNamespace(
        inventory=Inventory.model_validate(values), place=lambda at: f"prod.yml:{'.'.join(map(str, at[0]))}"
    )
    run: Any = SimpleNamespace(loaded=loaded)
    session: Any = hosts
    failure = OperationFailure(component, "Packages htop ngnix", (printed,), "check the name")
    whole = Result((HostResult("one", Status.FAILED, failure=failure), HostResult("two", Status.DONE)))
    found = applying.explained_failures(run, session, whole).hosts
    assert found[1] == whole.hosts[1]
    if not reported:
        assert found == whole.hosts
        return
    assert str(found[0].failure) == (
        "base: Packages htop ngnix failed\n"
        "    prod.yml:base.packages.1: one: debian 12 has no package ngnix; did you mean `nginx`?"
    )
