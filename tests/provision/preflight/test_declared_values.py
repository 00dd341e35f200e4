"""What only a host knows of declared values is asked in the plan, and reported with its place."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from inventory.load import load
from inventory.model import Inventory
from provision.preflight.declared_values import Rows, answers, doubts, reported, script
from provision.preflight.facts import probe
from tests.deploys.inventories import inventory

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"


def declared(**changes: Any) -> Inventory:
    base = {
        "time_zone": "PRC",
        "packages": ["htop", "ngnix"],
        "operators": [{"name": "anna", "keys": [KEY]}, {"name": "games", "keys": [KEY]}],
    }
    return inventory(base=base, hardening={"sysctl": {"vm.swapiness": 10, "kernel.x": "1"}}, **changes)


def problems(*lines: str) -> dict[str, str]:
    found = doubts(declared(), "bot1", "Debian 13", answers("\n".join(f"asked={line}" for line in lines)))
    return {doubt.problem: doubt.advice for doubt in found}


@pytest.mark.parametrize(
    ("line", "problem", "advice"),
    [
        ("zone|no|Asia/Shanghai", "Debian 13 has no time zone PRC", "write Asia/Shanghai"),
        (
            "zone|no|",
            "Debian 13 has no time zone PRC",
            "write a name from `timedatectl list-timezones` on the host",
        ),
        ("package|ngnix||nginx nghttp2 ngetty ", "Debian 13 has no package ngnix", "did you mean `nginx`?"),
        (
            "package|ngnix|mawk gawk |",
            "Debian 13 has no package ngnix of its own: it is provided by mawk, gawk",
            "write one of these, such as mawk",
        ),
        (
            "setting|vm.swapiness|no|no|",
            "its kernel has no setting vm.swapiness",
            "correct it, or load the kernel module of this setting (/etc/modules-load.d)",
        ),
        (
            "setting|kernel.x|yes|no|0|1",
            "its kernel setting kernel.x is 0|1 and cannot be changed",
            "remove it, or set it on the machine that this container runs on",
        ),
        ("login|games|5|yes", "games is a system user there (id 5)", "choose another name"),
        (
            "login|games||yes",
            "games is a system group there, so no user can have this name",
            "choose another name",
        ),
    ],
)
def test_value_that_the_host_does_not_have_is_reported_with_a_hint(
    line: str, problem: str, advice: str
) -> None:
    assert problems(line) == {problem: advice}


@pytest.mark.parametrize(
    "line",
    [
        "zone|yes|", "zone|unknown|", "setting|kernel.x|yes|yes|0", "setting|kernel.x|yes|no|1",
        "login|anna|1000|yes", "login|anna||no", "login|games|1001|yes",
    ],
)  # fmt: skip
def test_value_that_the_host_accepts_is_not_reported(line: str) -> None:
    assert problems(line) == {}


def test_missing_disk_is_reported_with_existing_ones() -> None:
    hosts = {"bot1": {"address": "10.0.0.1", "disk": {"device": "/dev/vdx"}}}
    found = Inventory.model_validate({**declared().model_dump(by_alias=True), "hosts": hosts})
    (doubt,) = doubts(found, "bot1", "Debian 12", {"device": (("/dev/vda /dev/vdb ",),)})
    assert doubt.problem == "there is no disk /dev/vdx"
    assert doubt.advice.startswith("its disks are /dev/vda, /dev/vdb; ")


def test_problem_on_several_hosts_is_reported_once_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "prod.yml"
    file.write_text(
        "hosts: {a: {address: 10.0.0.1}, b: {address: 10.0.0.2, roles: [database]}, c: {address: 10.0.0.3}}\n"
        "base:\n  time_zone: PRC\n  packages: [htop, ngnix]\n"
        "hardening: {sysctl: {vm.swapiness: 10}}\n"
        "database: {password: !env X}\n"
        "models: {default: {engine: openai-compatible, endpoint: 'https://x/v1'}}\n"
    )
    read = load(file, resolve_secrets=False)
    rows: dict[str, Rows] = {
        "a": answers("asked=zone|no|Asia/Shanghai\nasked=package|ngnix||nginx"),
        "b": answers("asked=zone|yes|"),
        "c": answers("asked=zone|no|Asia/Shanghai\nasked=setting|vm.swapiness|no|no|"),
    }
    releases = {"a": "Debian 13", "b": "Debian 12", "c": "Debian 13"}
    assert list(reported(read.inventory, releases, rows, read.place)) == [
        f"{file}:3:14: a, c: Debian 13 has no time zone PRC; write Asia/Shanghai",
        f"{file}:4:20: a: Debian 13 has no package ngnix; did you mean `nginx`?",
        (
            f"{file}:5:36: c: its kernel has no setting vm.swapiness; "
            "correct it, or load the kernel module of this setting (/etc/modules-load.d)"
        ),
    ]


DAY_S = 86400
MAIN = "http://deb.debian.org/debian/ bookworm"


@pytest.mark.parametrize(
    ("index", "ages", "asked"),
    [
        (MAIN, {"index": 0}, True),
        (MAIN, {"index": 2 * DAY_S}, False),
        (MAIN, {"index": 2 * DAY_S, "stamp": DAY_S // 2}, True),
        (MAIN, {"index": 2 * DAY_S, "stamp": 2 * DAY_S}, False),
        (MAIN, {"index": DAY_S // 2, "sources.list": 60}, False),
        (MAIN, {"index": DAY_S // 2, "sources.list.d/team.sources": 60}, False),
        (MAIN, {"index": DAY_S // 2, "sources.list.d": 60}, False),
        (MAIN, {"index": DAY_S // 2, ".": 60}, False),
        (MAIN, {"index": DAY_S // 2, "stamp": 60, "sources.list": 120}, True),
        (MAIN, {"index": DAY_S // 2, "stamp": 60, "sources.list.d": 120, ".": 120}, True),
        (MAIN, {"stamp": 0}, False),
        ("cdrom://[Debian]/ bookworm", {"index": 0, "stamp": 0}, False),
        ("http://security.debian.org/ bookworm-security", {"index": 0, "stamp": 0}, False),
    ],
)
def test_packages_are_checked_only_with_a_complete_apt_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: str, ages: dict[str, int], asked: bool
) -> None:
    apt = tmp_path / "apt"
    (apt / "sources.list.d").mkdir(parents=True)
    sources = ("sources.list", "sources.list.d/team.sources")
    for name in (*sources, *(name for name in ("index",) if name in ages)):
        (apt / name if name in sources else tmp_path / name).write_text("x\n")
    if "stamp" in ages:
        # As the folder of apt's downloads.
        (tmp_path / "stamp").mkdir()
    for name in ("index", "stamp", *sources, "sources.list.d", "."):
        file = tmp_path / name if name in ("index", "stamp") else apt / name
        if file.exists():
            then = time.time() - ages.get(name, 3 * DAY_S)
            os.utime(file, (then, then))
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, body in {"apt-get": f"echo '{index} {tmp_path}/index'", "apt-cache": ":"}.items():
        (programs / name).write_text(f"#!/bin/sh\n{body}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setattr("provision.preflight.declared_values.STAMPS", (str(tmp_path / "stamp"),))
    monkeypatch.setattr(
        "provision.preflight.declared_values.SOURCES",
        (str(apt / "sources.list"), str(apt / "sources.list.d")),
    )
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    found = inventory(base={"packages": ["htop"]})

    def packages(updated: bool) -> list[str]:
        command = ["sh", "-c", "set -u\n" + script(found, "bot1", updated=updated)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return [row[0] for row in answers(done.stdout).get("package", ())]

    assert packages(updated=False) == (["htop"] if asked else [])
    assert packages(updated=True) == ["htop"]


@pytest.mark.skipif(not shutil.which("apt-cache"), reason="apt is not here")
def test_script_runs_on_this_machine() -> None:
    settings = {"kernel.ostype": "Linux", "vm.no_such": 1}
    base = {
        "time_zone": "Etc/UTC",
        "packages": ["apt", "bash", "no-such-package-at-all"],
        "operators": [{"name": name, "keys": [KEY]} for name in ("nobody2", "daemon", "tty")],
    }
    hosts = {"bot1": {"address": "10.0.0.1", "disk": {"device": "/dev/no-such-disk"}}}
    found = inventory(base=base, hardening={"sysctl": settings})
    found = Inventory.model_validate({**found.model_dump(by_alias=True), "hosts": hosts})
    done = subprocess.run(
        ["sh", "-c", "set -u\n" + script(found, "bot1", updated=True)],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = answers(done.stdout)
    assert rows["zone"][0][0] in ("yes", "unknown")
    assert {row[0] for row in rows.get("package", ())} <= {"no-such-package-at-all"}
    if any(Path("/var/lib/apt/lists").glob("*_Packages*")):
        assert "package" in rows
    assert rows["setting"][0] == ("kernel.ostype", "yes", "no", "Linux")
    assert rows["setting"][1][:3] == ("vm.no_such", "no", "no")
    logins = {row[0]: row[1:] for row in rows["login"]}
    assert logins["nobody2"] == ("", "no")
    assert logins["daemon"] == ("1", "yes")
    assert logins["tty"] == ("", "yes")
    assert len(rows["device"]) == 1
    kinds = [doubt.problem for doubt in doubts(found, "bot1", "Debian 12", rows)]
    assert "there is no disk /dev/no-such-disk" in kinds
    assert "its kernel has no setting vm.no_such" in kinds


def test_questions_are_part_of_the_probe_script() -> None:
    found = declared()
    assert script(found, "bot1") in probe(["/"], more=script(found, "bot1"))
