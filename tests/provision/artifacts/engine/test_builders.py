from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from inventory.errors import ConnectError, HostError
from provision.artifacts.engine.builders import Builder, LocalBuilder, SshBuilder
from provision.connection.link import HostConnection
from provision.local.ask import NoTerminal
from provision.ssh.route import Hop, Route
from provision.ssh.transport import WatchedTransport


@pytest.fixture
def ssh() -> Iterator[HostConnection]:
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("ssh_server.py"))], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        transport = WatchedTransport(socket.create_connection(("127.0.0.1", port)))
        transport.start_client()
        transport.auth_none("operator")
        link = HostConnection(Route("bot1", (Hop("127.0.0.1", port, "operator"),)), NoTerminal())
        link._transport = transport
        yield link
        link.close()
    finally:
        server.kill()
        server.wait()
        assert server.stdout is not None
        server.stdout.close()


@pytest.fixture(params=["local", "ssh"])
def builder(request: pytest.FixtureRequest) -> Builder:
    if request.param == "local":
        return LocalBuilder()
    return SshBuilder(request.getfixturevalue("ssh"))


def test_output_comes_line_by_line_with_both_streams(builder: Builder) -> None:
    script = "echo one; echo two >&2; printf 'thr\\303\\244\\377\\n'"
    assert list(builder.run(script)) == ["one", "two", "thrä\ufffd"]


def test_output_is_streamed_while_the_program_runs(builder: Builder, tmp_path: Path) -> None:
    script = f"echo first; while [ ! -e {tmp_path}/go ]; do sleep 0.02; done; echo last"
    with closing(builder.run(script)) as output:
        assert next(output) == "first"
        (tmp_path / "go").touch()
        assert list(output) == ["last"]


def test_standard_input_stays_open_until_the_end(builder: Builder) -> None:
    script = "exec 3<&0; (cat <&3 >/dev/null; kill -TERM 0) >/dev/null 2>&1 & sleep 0.3; echo still here"
    assert list(builder.run(script)) == ["still here"]


def test_closing_the_output_early_ends_the_program(builder: Builder, tmp_path: Path) -> None:
    script = (
        "exec 3<&0; (cat <&3 >/dev/null; kill -TERM 0) >/dev/null 2>&1 & "
        f"sleep 600 & echo $! > {tmp_path}/pid; echo ready; wait"
    )
    with closing(builder.run(script)) as output:
        assert next(output) == "ready"
        pid = int((tmp_path / "pid").read_text())
        os.kill(pid, 0)
    until = time.monotonic() + 10
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.02)
    assert not alive(pid)


def alive(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def test_failure_names_the_machine_and_shows_marked_lines(builder: Builder) -> None:
    script = "echo noise; echo 'clawd: no room'; for i in 1 2 3 4 5 6 7 8 9; do echo more; done; exit 4"
    with pytest.raises(HostError, match="clawd: no room") as caught:
        list(builder.run(script))
    assert builder.name in str(caught.value)
    assert "status 4" in str(caught.value)
    assert "more" not in str(caught.value)


def test_large_files_are_copied_unchanged_in_both_directions(builder: Builder, tmp_path: Path) -> None:
    data = random.Random(1).randbytes(3_000_001)
    (tmp_path / "here").write_bytes(data)
    there = tmp_path / "it's there"
    builder.put(tmp_path / "here", str(there))
    assert there.read_bytes() == data
    builder.get(str(there), tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data


def test_failed_copy_over_ssh_is_reported(ssh: HostConnection, tmp_path: Path) -> None:
    builder = SshBuilder(ssh)
    (tmp_path / "here").write_bytes(b"x")
    with pytest.raises(HostError, match="cannot write"):
        builder.put(tmp_path / "here", "/nowhere/at/all")
    with pytest.raises(HostError, match="cannot read"):
        builder.get("/nowhere/at/all", tmp_path / "back")


def test_closed_connection_is_reported(ssh: HostConnection) -> None:
    ssh.close()
    with pytest.raises(ConnectError, match="bot1: the connection was lost: it was closed"):
        list(SshBuilder(ssh).run("true"))


@pytest.mark.parametrize(("user", "sudo"), [("root", False), ("operator", True)])
def test_sudo_is_used_by_every_user_but_root(user: str, sudo: bool) -> None:
    link = HostConnection(Route("bot1", (Hop("127.0.0.1", 22, user),)), NoTerminal())
    assert SshBuilder(link).sudo is sudo
    # Where sudo wants a password, scripts run as root: they cannot answer it.
    link._password = "secret"
    assert SshBuilder(link).sudo is False


def test_local_build_does_not_receive_the_interrupt_of_the_terminal(tmp_path: Path) -> None:
    """Ctrl-C reaches this program alone, which then ends the build in good order."""
    with closing(LocalBuilder().run(f"echo $$ > {tmp_path}/pid; echo ready; sleep 600")) as output:
        next(output)
        assert os.getpgid(int((tmp_path / "pid").read_text())) != os.getpgrp()
    assert not alive(int((tmp_path / "pid").read_text()))
