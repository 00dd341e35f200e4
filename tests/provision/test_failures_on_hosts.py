"""What goes wrong on real hosts: reported with component, operation, output and advice; what was live stays.

Package lock held, sources that cannot be reached, a disk that is full, a clock that is wrong, a service that
will not start.
"""

from __future__ import annotations

import io
import re
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gevent.event import Event
from rich.console import Console

from deploys.artifacts import Supplies
from deploys.ops.debian import apt
from deploys.os_releases import RELEASES
from inventory.errors import HostError
from inventory.load import LoadedInventory
from provision.connection.session import Session
from provision.local.run_log import RunLog
from provision.plan import HostResult, Result, Status
from provision.preflight.doctor import examine
from provision.progress import Silent
from provision.reporting.display import show_result
from provision.selection import Selection, assign
from tests.hosts import Box, Host, boxes, in_every_run, on_hosts, until

pytestmark = on_hosts(seconds=600)

SECONDS_FOR_A_LOCK = 2
HOLD = (
    "import fcntl, time; lock = open('/var/lib/dpkg/lock-frontend', 'w'); "
    "fcntl.lockf(lock, fcntl.LOCK_EX); open('/run/held', 'w'); time.sleep({seconds})"
)
LIVE = (
    "cat /etc/ssh/sshd_config.d/*.conf /etc/systemd/journald.conf.d/*.conf /etc/sudoers.d/clawd | sha256sum"
)
JOURNALD = "/etc/systemd/journald.conf.d/10-clawd.conf"
APT = "/usr/local/sbin/apt-get"
BROKEN = "/run/systemd/system/systemd-journald.service.d/broken.conf"


box = boxes("clpf", 173)


class Base(Host):
    """A sandbox host, and runs of the component base against it as the program makes them."""

    def up(self, *packages: str, journal: str = "500M") -> HostResult:
        loaded = self.with_base(packages, journal)
        log = RunLog("test", self.folder / "log")
        selection = Selection(components=("base",))
        try:
            with Session(loaded, (self.name,), log) as session:
                assert session.connect() == {}
                session.set_data(
                    self.name,
                    "apt_options",
                    f"-o DPkg::Lock::Timeout={SECONDS_FOR_A_LOCK} -o Acquire::Retries=0",
                )
                supplies = {self.name: Supplies(loaded.state_folder)}
                plan = session.prepare(assign(loaded.inventory, selection), supplies, Silent())
                assert not plan.errors
                (result,) = session.execute(plan, Silent(), Event())
                return result
        finally:
            log.close()

    def examined(self, loaded: LoadedInventory | None = None) -> list[str]:
        """What preflight has to say, refusals last. The host would be a front, and the home of a bot."""
        loaded = loaded or self.with_base((), "500M")
        found: list[str] = []
        log = RunLog("test", self.folder / "log")
        try:
            with Session(loaded, (self.name,), log) as session:
                assert session.connect() == {}
                progress: Any = SimpleNamespace(warn=found.append)
                examine(loaded.inventory, session, progress, place=loaded.place)
        except HostError as refused:
            found += refused.message.splitlines()
        finally:
            log.close()
        return found

    def with_base(self, packages: tuple[str, ...], journal: str) -> LoadedInventory:
        return self.loaded(base={"packages": list(packages), "journal_max": journal})


@pytest.fixture(scope="module", params=in_every_run("trixie"))
def host(request: pytest.FixtureRequest, box: Box) -> Base:
    """A host that base has been applied to."""
    host = Base(box, box.named(request.param))
    assert host.up().status is Status.DONE
    return host


def test_preflight_reports_a_port_in_use_and_unreachable_package_sources(host: Base) -> None:
    assert host.examined() == []
    host.on("systemd-run -q --unit=holds-the-port python3 -m http.server -d /run 443")
    until(lambda: ":443 " in host.on("ss -Hltn"))
    host.on(
        "cp /etc/apt/sources.list /root/sources; sed -i 's|http://[^/]*|http://127.0.0.1:9|' "
        "/etc/apt/sources.list"
    )
    try:
        found = host.examined()
    finally:
        host.on("systemctl stop holds-the-port; mv /root/sources /etc/apt/sources.list")
    assert found == [
        (
            f"{host.name}: port 443, which nginx needs, is used by python3 (holds-the-port.service); "
            "stop that program (`ss -ltnp sport = :443`), or choose another port"
        ),
        (
            f"{host.name}: it cannot reach 127.0.0.1:9 of its package sources; check its network, its proxy "
            "(`apt-config dump`) and /etc/apt, or connect through this machine (`internet: false`)"
        ),
    ]
    assert host.examined() == []


def test_values_that_the_host_does_not_have_are_refused_in_the_plan_with_their_place(host: Base) -> None:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
    base = {
        "time_zone": "PRC",
        "packages": ["tree", "ngnix", "awk"],
        "operators": [{"name": "robot", "keys": [key]}, {"name": "crew", "keys": [key]}],
    }
    # By an index that was read long ago, no package is refused.
    host.on("apt-get update; useradd --system --uid 477 robot; groupadd --system crew")
    settings = {"vm.no_such_setting": 1, "kernel.ostype": "Hurd", "net.ipv4.ip_forward": 0}
    loaded = host.loaded(base=base, hardening={"sysctl": settings})
    try:
        found = host.examined(loaded)
    finally:
        host.on("userdel robot; groupdel crew")
    release = next(str(item) for item in RELEASES if item.codename == host.release)
    places = [text.partition(f": {host.name}: ") for text in found]
    assert all(re.fullmatch(rf"{host.folder}/{host.name}\.yml:[0-9]+:[0-9]+", place[0]) for place in places)
    reasons = [place[2] for place in places]
    legacy = [f"{release} has no time zone PRC; write Asia/Shanghai"] if host.release == "trixie" else []
    assert reasons == [
        *legacy,
        f"{release} has no package ngnix; did you mean `nginx`?",
        (
            f"{release} has no package awk of its own: it is provided by gawk, mawk, original-awk; "
            "write one of these, such as gawk"
        ),
        (
            "its kernel has no setting vm.no_such_setting; "
            "correct it, or load the kernel module of this setting (/etc/modules-load.d)"
        ),
        (
            "its kernel setting kernel.ostype is Linux and cannot be changed; "
            "remove it, or set it on the machine that this container runs on"
        ),
        "robot is a system user there (id 477); choose another name",
        "crew is a system group there, so no user can have this name; choose another name",
    ]


def failure_text(result: HostResult) -> str:
    """What a person reads about a failed host: that nothing after the failure was done is a part of it."""
    assert result.status is Status.FAILED
    assert result.failure is not None
    assert result.failure.component == "base"
    screen = io.StringIO()
    show_result(Console(file=screen, width=1000), Result((result,)))
    assert f"{result.host} base: {result.failure.operation} failed" in screen.getvalue()
    return screen.getvalue()


def test_apt_lock_held_too_long_fails_with_its_process(host: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apt, "wait", partial(apt.wait, deadline=4))
    before = host.on(LIVE)
    hold_the_lock(host, seconds=90)
    try:
        text = failure_text(host.up("tree"))
    finally:
        host.on("systemctl stop holds-the-lock || true")
    assert "Packages ca-certificates" in text
    assert re.search(r"waited for python3 \(pid [0-9]+\), which holds /var/lib/dpkg/lock-frontend", text)
    assert re.search(r"see what it does \(`ps -fp [0-9]+`\), then run again", text)
    assert host.on(LIVE) == before


def test_apt_lock_is_waited_for(host: Base) -> None:
    hold_the_lock(host, seconds=10)
    assert host.up("tree").status is Status.DONE
    assert host.on("dpkg-query -W -f='${db:Status-Status}' tree") == "installed"


def hold_the_lock(host: Base, *, seconds: int) -> None:
    """Have a program hold the lock of dpkg for so long; it holds it when this returns."""
    host.on("rm -f /run/held")
    held = HOLD.format(seconds=seconds)
    host.on(f'systemd-run -q --unit=holds-the-lock --collect python3 -c "{held}"')
    until(lambda: host.on("ls /run/held 2>/dev/null || true") != "")


def test_unreachable_package_sources_fail_with_a_hint(host: Base) -> None:
    before = host.on(LIVE)
    sources = "/etc/apt/sources.list"
    host.on(
        f"cp {sources} /root/sources; sed -i 's|http://[^/]*|http://127.0.0.1:9|' {sources}; "
        "rm -rf /var/lib/apt/lists/*; apt-get clean"
    )
    try:
        text = failure_text(host.up("tree", "less"))
    finally:
        host.on(f"mv /root/sources {sources}")
    assert "127.0.0.1" in text
    assert "the host cannot reach its package mirror" in text
    assert host.on(LIVE) == before
    assert host.up("tree", "less").status is Status.DONE


@pytest.mark.parametrize(
    ("off_by", "said", "advice"),
    [
        # apt of Debian 12 compares the date of the index, that of Debian 13 those of its signatures.
        (
            "-10d",
            r"is not valid yet|Not live until",
            "the host's clock is slow: check `timedatectl`",
        ),
        ("+400d", r"Release file for \S+ is expired", "or the host's clock is fast: check `timedatectl`"),
    ],
    ids=["behind", "ahead"],
)
def test_wrong_clock_fails_with_a_hint(host: Base, off_by: str, said: str, advice: str) -> None:
    """These hosts have this machine's clock: here apt alone is shown another one."""
    host.on("apt-get install -qq -y --no-install-recommends faketime >/dev/null")
    before = host.on(LIVE)
    instead = f'#!/bin/sh\\nexec faketime -f {off_by} /usr/bin/apt-get "$@"\\n'
    host.on(f"printf '{instead}' > {APT}; chmod 755 {APT}; rm -rf /var/lib/apt/lists/*")
    try:
        text = failure_text(host.up("tree", "less", "bc"))
    finally:
        host.on(f"rm {APT}")
    assert re.search(said, text)
    assert advice in text
    assert host.on(LIVE) == before
    assert host.on("command -v bc || true") == ""
    assert host.up("tree", "less").status is Status.DONE


def test_unknown_package_fails_with_a_hint(host: Base) -> None:
    text = failure_text(host.up("tree", "less", "no-such-package"))
    assert "E: Unable to locate package no-such-package" in text
    assert "the host's package sources do not have this package (no-such-package)" in text


def test_full_disk_fails_with_a_hint(host: Base) -> None:
    before = host.on(LIVE)
    host.on(
        "apt-get clean; mount -t tmpfs -o size=64k tmpfs /var/cache/apt/archives; mkdir -p "
        "/var/cache/apt/archives/partial"
    )
    try:
        text = failure_text(host.up("tree", "less", "file"))
    finally:
        host.on("umount /var/cache/apt/archives")
    assert "free space" in text or "No space left" in text
    assert "free disk space on the host" in text
    assert host.on(LIVE) == before
    assert host.up("tree", "less", "file").status is Status.DONE


def test_service_that_does_not_start_is_rolled_back_and_reported(host: Base) -> None:
    """What it ran with before is live again, and runs: one could leave it so."""
    packages = ("tree", "less", "file")
    before = host.on(LIVE)
    refuse = f'[Service]\\nExecStartPre=/bin/sh -c "! grep -q 400M {JOURNALD}"\\n'
    host.on(f"mkdir -p {Path(BROKEN).parent}; printf '{refuse}' > {BROKEN}")
    try:
        text = failure_text(host.up(*packages, journal="400M"))
        assert host.on(LIVE) == before
        assert host.on("systemctl is-active systemd-journald") == "active"
        assert host.up(*packages).changed == ()
    finally:
        host.on(f"rm {BROKEN}; systemctl daemon-reload; systemctl reset-failed systemd-journald; true")
    assert "base: Service systemd-journald failed" in text
    assert "systemd-journald.service: does not start" in text
    assert "the previous files were restored, and it runs with them" in text
    assert "hint: read `journalctl --namespace='*' -u systemd-journald.service` on the host" in text
    assert {operation.name for operation in host.up(*packages, journal="400M").changed} == {
        f"Write {JOURNALD}",
        "Service systemd-journald",
    }
    assert host.up(*packages, journal="400M").changed == ()
