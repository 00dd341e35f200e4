"""Programs on hosts, over a real sshd: noisy and slow logins, connections that break."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import gevent
import pytest
from pyinfra.api import StringCommand

from inventory.errors import ConnectError, HostError
from inventory.load import LoadedInventory
from inventory.model import Inventory
from provision.connection.link import HostConnection, RemoteProcess
from provision.connection.lock import Locks
from provision.connection.session import Session, links_to
from provision.local.ask import NoTerminal
from provision.local.run_log import RunLog
from provision.ssh import transport
from tests.provision.sshd import Sshd, keygen, needs_sshd, serving

pytestmark = [pytest.mark.slow, needs_sshd]
MODELS = {"default": {"engine": "openai-compatible", "endpoint": "https://models.example.com/v1"}}


@pytest.fixture(autouse=True)
def _no_other_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return keygen(tmp_path_factory.mktemp("keys") / "key")


def loaded_for(server: Sshd, key: Path, port: int | None = None) -> LoadedInventory:
    host = {"address": "127.0.0.1", "port": port or server.port, "user": server.user, "ssh_key": str(key)}
    declared = {"hosts": {"bot1": {**host, "host_key": server.host_key()}}, "models": MODELS}
    return LoadedInventory(Inventory.model_validate(declared), server.folder / "inventory.yml")


def link_to(server: Sshd, key: Path, port: int | None = None) -> HostConnection:
    link = links_to(loaded_for(server, key, port), ["bot1"], NoTerminal())["bot1"]
    link.connect()
    return link


@pytest.mark.parametrize(
    "startup",
    [
        "echo hello\n",
        "printf 'no newline'\n",
        "echo hello >&2\necho and hello\n",
        "trap 'echo goodbye' EXIT\necho hello\n",
        "set -x\n",
        "set -v\n",
        "printf '\\377\\376\\n\\033[2J'\n",
        "yes hello | head -n 20000\n",
        "tput cols\nstty -a\nmesg n\n",
        "PROMPT_COMMAND='echo no'\nalias sh='echo no'\n",
    ],
)
def test_output_of_startup_files_is_not_in_the_result(startup: str, key: Path, tmp_path: Path) -> None:
    with serving(tmp_path / "sshd", key, startup=startup) as server, closing(link_to(server, key)) as link:
        ended = link.run("sh -c 'cat; echo two >&2; exit 3'", stdin=b"one\n\xff")
        assert (ended.status, ended.stdout, ended.stderr) == (3, "one\n\ufffd", "two\n")


def test_login_with_noisy_startup_files_works_for_plan_lock_and_push(key: Path, tmp_path: Path) -> None:
    from deploys.ops.paths.stream import StreamCommand

    source, dest = tmp_path / "source", tmp_path / "dest"
    source.write_bytes(b"content" * 100_000)
    with (
        serving(tmp_path / "sshd", key, startup="echo hello; echo hello >&2\n") as server,
        RunLog("test", tmp_path / "log") as log,
        Session(loaded_for(server, key), ["bot1"], log) as session,
    ):
        assert session.connect() == {}
        assert session.run("bot1", "echo $((1 + 1)); id -u", stdin="x").stdout == "2\n0"
        with Locks(_at(session, tmp_path / "lock"), ["bot1"], "up"):
            assert "pytest" not in (tmp_path / "lock").read_text()
        (host,) = session._state.inventory
        stream = StreamCommand(source, str(dest), "0" * 64)
        succeeded, output = stream.execute(session._state, host, {"_sudo": False})
        assert (succeeded, output.output) == (True, "")
        assert Path(stream.part).read_bytes() == source.read_bytes()
        succeeded, output = host.connector.run_shell_command(StringCommand("echo", "one"), _stdin=["x"])
        assert (succeeded, output.stdout_lines, output.stderr_lines) == (True, ["one"], [])


def _at(session: Session, path: Path) -> Session:
    """The session, whose locks are at `path` on this machine."""
    start = session.start_as_root
    session.start_as_root = lambda name, script: start(  # type: ignore[method-assign]
        name,
        script.replace("/var/lib/clawd/state/lock", str(path)).replace(
            str(Path("/var/lib/clawd/state")), str(path.parent)
        ),
    )
    return session


def test_startup_file_that_ends_the_shell_is_reported(key: Path, tmp_path: Path) -> None:
    with (
        serving(tmp_path / "sshd", key, startup="echo maintenance today; exit 0\n") as server,
        closing(link_to(server, key)) as link,
        pytest.raises(HostError, match="ended without running the command: maintenance today") as caught,
    ):
        link.run("true")
    assert "startup files" in caught.value.advice


def test_slow_login_works_and_is_reported(key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("provision.connection.link.SLOW_START_S", 0.5)
    with (
        serving(tmp_path / "sshd", key, startup="sleep 1\n") as server,
        closing(link_to(server, key)) as link,
    ):
        assert link.run("echo one").stdout == "one\n"
        assert 1 <= link.slow_start < 10


def test_login_that_never_starts_a_command_is_reported(
    key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("provision.connection.link.START_S", 0.5)
    with (
        serving(tmp_path / "sshd", key, startup="sleep 60\n") as server,
        closing(link_to(server, key)) as link,
        pytest.raises(HostError, match=r"login shell of \w+ did not start a command within 0.5 s"),
    ):
        link.run("true")


class Relay:
    """A TCP relay that can go silent: what arrives then goes nowhere, and no side is notified."""

    def __init__(self, port: int) -> None:
        self.silent = threading.Event()
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._to))
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._copy, args=(one.recv, other.sendall), daemon=True).start()

    def _copy(self, receive: Callable[[int], bytes], send: Callable[[bytes], None]) -> None:
        try:
            while data := receive(65536):
                if self.silent.is_set():
                    time.sleep(3600)
                send(data)
        except OSError:
            return

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def relayed(
    key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Relay, HostConnection]]:
    monkeypatch.setattr(transport, "ASKED_AFTER_S", 0.4)
    monkeypatch.setattr(transport, "DEAD_AFTER_S", 1.5)
    monkeypatch.setattr(transport, "_LOOK_EVERY_S", 0.1)
    with (
        serving(tmp_path / "sshd", key) as server,
        closing(Relay(server.port)) as relay,
        closing(link_to(server, key, relay.port)) as link,
    ):
        yield relay, link


def test_idle_connection_is_kept(relayed: tuple[Relay, HostConnection]) -> None:
    _, link = relayed
    assert link.run("sh -c 'sleep 4; echo done'").stdout == "done\n"
    assert link.lost == ""


def test_blocked_time_of_this_program_does_not_count_as_silence(
    relayed: tuple[Relay, HostConnection],
) -> None:
    from gevent import monkey

    _, link = relayed
    monkey.get_original("time", "sleep")(3)
    gevent.sleep(0.5)
    assert link.run("echo on").stdout == "on\n"


def _use(process: RemoteProcess, writing: bool) -> None:
    while writing:
        process.write(b"x" * 65536)
    while process.stdout.read1(1 << 20):
        pass
    process.wait()


@pytest.mark.parametrize("command", ["sleep 60", "cat /dev/zero", "cat"])
def test_lost_network_is_detected(relayed: tuple[Relay, HostConnection], command: str) -> None:
    relay, link = relayed
    process = link.start(command)
    threading.Timer(0.5, relay.silent.set).start()
    with pytest.raises((ConnectError, OSError)):
        _use(process, command == "cat")
    assert link.lost == "it was silent for 2 s"
    with pytest.raises(ConnectError, match="bot1: the connection was lost: it was silent"):
        link.run("true")


def test_dead_connection_is_detected_within_30_seconds() -> None:
    assert transport.DEAD_AFTER_S + 2 * transport._LOOK_EVERY_S < 30


def test_keepalives_do_not_consume_replies_of_requests(
    relayed: tuple[Relay, HostConnection],
) -> None:
    _, link = relayed
    transport = link.transport()
    ports = []
    for _ in range(20):
        transport._ask()
        ports.append(transport.request_port_forward("127.0.0.1", 0, lambda *_: None))
    assert len(set(ports)) == 20
    assert all(ports)


def test_connection_closed_by_the_host_is_reported(key: Path, tmp_path: Path) -> None:
    with (
        serving(tmp_path / "sshd", key) as server,
        closing(link_to(server, key)) as link,
        pytest.raises(ConnectError, match="bot1: the connection was lost: the host ended it"),
    ):
        link.run("sh -c 'kill -9 $PPID'")
