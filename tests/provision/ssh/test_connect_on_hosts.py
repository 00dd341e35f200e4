"""Logins as people have them, on real hosts: sudo with a password, noisy shells, a network that goes away."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import Event
from pydantic import SecretStr

from deploys.artifacts import Supplies
from inventory.errors import HostError
from inventory.load import LoadedInventory
from provision.artifacts.engine.builders import SshBuilder
from provision.connecting import _lend_internet
from provision.connection.lock import Locks
from provision.connection.package_gate import SOURCES
from provision.connection.session import Session
from provision.local.ask import NoTerminal, SecretPrompt
from provision.local.run_log import RunLog
from provision.plan import Plan, PlannedOperation, Status
from provision.progress import Silent
from provision.selection import Selection, assign
from provision.verification.run import verify
from tests.hosts import Box, Host, boxes, in_every_run, on_hosts

pytestmark = on_hosts(seconds=400)
box = boxes("clsl", 172)
PASSWORD = "it's $ecret \\ pässword"
BASE = Selection(components=("base",))
WORD = "$ecret"
WATCH = r"""
while [ ! -e /run/enough ]; do
    for at in /proc/[0-9]*; do
        grep -qsFf /run/word $at/cmdline && tr '\0' ' ' < $at/cmdline >> /run/seen
        grep -qsFf /run/word $at/environ && echo environ >> /run/seen
    done
    sleep 0.05
done
"""
"""Notes every process that has the password in its arguments or environment."""


class Someone(Host):
    """A sandbox host, and runs of the component base against it."""

    def with_password(self, password: str | None) -> LoadedInventory:
        """The inventory, perhaps with the password of the login."""
        loaded = self.loaded(base={"packages": [], "time_zone": "Asia/Shanghai"})
        host = loaded.inventory.hosts[self.name]
        given = {"sudo_password": SecretStr(password) if password is not None else None}
        changed = loaded.inventory.model_copy(update={"hosts": {self.name: host.model_copy(update=given)}})
        return LoadedInventory(changed, loaded.path)

    @contextmanager
    def connected(self, loaded: LoadedInventory, ask: SecretPrompt | None = None) -> Iterator[Session]:
        with (
            RunLog("test", self.folder / "log") as log,
            Session(loaded, (self.name,), log, ask=ask) as session,
        ):
            assert session.connect() == {}
            session.require_root(self.name)
            yield session

    def planned(self, session: Session, loaded: LoadedInventory) -> Plan:
        plan = session.prepare(
            assign(loaded.inventory, BASE), {self.name: Supplies(loaded.state_folder)}, Silent()
        )
        assert not plan.errors, plan.errors
        return plan


@pytest.fixture(params=in_every_run("trixie"))
def host(request: pytest.FixtureRequest, box: Box) -> Iterator[Someone]:
    found = Someone(box, box.named(request.param))
    shown = PASSWORD.replace("'", "'\\''")
    found.on(f"echo 'operator:{shown}' | chpasswd; chsh -s /bin/bash operator; rm -f /run/enough /run/seen")
    found.on("echo 'operator ALL=(ALL) ALL' > /etc/sudoers.d/operator")
    yield found
    found.on(
        "echo 'operator ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/operator; rm -f /home/operator/.bashrc"
    )


def test_plan_lock_apply_push_and_verify_work_with_sudo_password_and_noisy_login(
    host: Someone, tmp_path: Path
) -> None:
    host.on("printf 'echo hello\\necho hello >&2\\nset -x\\n' > /home/operator/.bashrc")
    host.on(f"echo '{WORD}' > /run/word")
    host.on(f"systemd-run --quiet --unit watch sh -c {shlex.quote(WATCH)}")
    loaded = host.with_password(PASSWORD)
    with host.connected(loaded) as session, Locks(session, [host.name], "up"):
        assert session.run(host.name, "id -u; cat", stdin="one\ntwo").stdout == "0\none\ntwo"
        assert '"command": "up"' in host.on("cat /var/lib/clawd/state/lock")
        (result,) = session.execute(host.planned(session, loaded), Silent(), Event())
        assert result.status is Status.DONE, result
        assert result.changed
    with host.connected(loaded) as session:
        assert not host.planned(session, loaded).changes
        builder = SshBuilder(session.links[host.name])
        assert (list(builder.run("id -u")), builder.sudo) == (["0"], False)
        source = tmp_path / "file"
        source.write_bytes(bytes(range(256)) * 5000)
        builder.put(source, "/root/pushed")
        builder.get("/root/pushed", tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == source.read_bytes()
        found = verify(loaded, assign(loaded.inventory, BASE), session.links)
    assert found.checks
    assert [check.name for check in found.failed] == []
    assert host.on("cat /run/seen 2>/dev/null || true") == ""
    # The watch sees what there is to see.
    host.on(
        f"sh -c 'sleep 3; : {WORD}' & sleep 2; touch /run/enough; sleep 0.3; grep -qFf /run/word /run/seen"
    )
    for file in host.folder.rglob("*"):
        assert not file.is_file() or WORD not in file.read_text(errors="replace"), file


def test_sudo_password_is_asked_once_and_a_wrong_one_is_reported(host: Someone) -> None:
    asked: list[str] = []

    class Person:
        def secret(self, kind: str, question: str, accepted: Callable[[str], bool]) -> str | None:
            asked.append(question)
            return next((each for each in ("wrong", PASSWORD) if accepted(each)), None)

    with host.connected(host.with_password(None), Person()) as session:
        session.require_root(host.name)
        assert session.run(host.name, "id -u").stdout == "0"
    assert asked == [f"sudo password of operator on {host.name}"]
    started = time.monotonic()
    with pytest.raises(HostError, match="sudo does not accept the password of operator") as caught:
        host.connected(host.with_password("wrong")).__enter__()
    assert time.monotonic() - started < 20
    assert f"hosts.{host.name}.sudo_password" in caught.value.advice
    with pytest.raises(HostError, match="sudo requires a password of operator, but none was given") as caught:
        host.connected(host.with_password(None), NoTerminal()).__enter__()
    assert "`sudo_password: !env NAME`" in caught.value.advice
    # A password that is not asked for is read away, and reaches no program.
    with host.connected(host.with_password(PASSWORD)) as session:
        host.on("echo 'operator ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/operator")
        assert session.run(host.name, "cat", stdin="in").stdout == "in"
    host.on("echo 'operator ALL=(ALL) /bin/true' > /etc/sudoers.d/operator")
    with pytest.raises(HostError, match="operator may not run commands as root"):
        host.connected(host.with_password(PASSWORD)).__enter__()


def test_network_lost_during_an_operation_is_reported_within_30_seconds(
    host: Someone, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.on("echo 'operator ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/operator")
    loaded = host.with_password(None)
    host.on("rm -f /etc/systemd/journald.conf.d/10-clawd.conf; timedatectl set-timezone Etc/UTC || true")
    gone: list[float] = []

    class Watching(Silent):
        def operation(self, name: str, operation: PlannedOperation) -> None:
            # In the middle of the first operation.
            gone.append(time.monotonic())
            gevent.spawn_later(0.05, cut)

    def cut() -> None:
        if len(gone) == 1:
            nft(
                f"add table ip clslcut; add chain ip clslcut out {{ type filter hook output priority 0; }}; "
                f"add rule ip clslcut out ip daddr {host.address} drop; "
                f"add chain ip clslcut in {{ type filter hook input priority 0; }}; "
                f"add rule ip clslcut in ip saddr {host.address} drop"
            )

    try:
        with host.connected(loaded) as session:
            plan = host.planned(session, loaded)
            (host_of_pyinfra,) = session._state.inventory
            start = host_of_pyinfra.connector.link.start

            def slow(command: str, **more: Any) -> Any:
                return start(f"sh -c {shlex.quote('sleep 300')}" if gone else command, **more)

            monkeypatch.setattr(host_of_pyinfra.connector.link, "start", slow)
            (result,) = session.execute(plan, Watching(), Event())
            took = time.monotonic() - gone[0]
            assert result.status is Status.FAILED
            assert result.failure is not None
            assert took < 30, took
            (said,) = result.failure.output
            lost = f"the connection to {host.name} was lost during this operation"
            assert said == f"{lost}: it was silent for 25 s"
            assert result.failure.operation == plan.for_host(host.name).operations[0].name
            assert "run `up`" in result.failure.advice
            started = time.monotonic()
            with pytest.raises(Exception, match="the connection was lost: it was silent for 25 s"):
                session.run(host.name, "true")
            assert time.monotonic() - started < 1
    finally:
        nft("delete table ip clslcut")


def test_host_without_internet_reaches_only_its_package_sources(
    host: Someone,
) -> None:
    host.on("echo 'operator ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/operator")
    loaded = host.with_password(None)
    with host.connected(loaded) as session:
        _lend_internet(session, host.name)
        (pyinfra_host,) = session._state.inventory
        options = pyinfra_host.data.apt_options
        assert "http://127.0.0.1:" in options
        sources = session.run(host.name, SOURCES).stdout
        assert "http" in sources
        done = session.run(host.name, f"apt-get {options} -o Acquire::Retries=0 update", timeout=120)
        assert done.succeeded, done.stderr
        assert "Err:" not in done.stdout
        proxy = options.split("=")[-1]
        for url in ("http://127.0.0.1:22/", "http://169.254.169.254/", f"http://{host.box.machine}/"):
            asked = (
                "import urllib.request as u; "
                f"o = u.build_opener(u.ProxyHandler({{'http': '{proxy}'}})); o.open('{url}', timeout=20)"
            )
            done = session.run(host.name, f"python3 -c {shlex.quote(asked)}")
            assert "403: Forbidden" in done.stderr, done.stderr


def nft(rules: str) -> None:
    subprocess.run(["nft", rules], check=True, capture_output=True)
