"""Bots that are drained, restored and killed behind a real nginx under load."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from deploys.nginx.settings import PathSettings
from tests.deploys.nginx.front import Served, bot, free_port, nginx

pytestmark = pytest.mark.slow

ANY = PathSettings(requests_per_second=100_000, burst=100_000)
UNLIMITED: dict[str, Any] = {
    "telegram": ANY,
    "feishu": ANY,
    "console": ANY,
    "health": ANY,
    "connections": 1000,
}


class Load:
    """Clients that post webhooks until stopped, each over one connection while nginx keeps it."""

    def __init__(self, front: Served, path: str = "/telegram/webhook") -> None:
        self._front, self._path, self._ending = front, path, threading.Event()
        self.answers: Counter[int] = Counter()
        self.by: Counter[int] = Counter()

    @contextmanager
    def running(self, clients: int = 4) -> Iterator[Load]:
        threads = [threading.Thread(target=self._post) for _ in range(clients)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._ending.set()
            for thread in threads:
                thread.join()

    def more(self, answers: int) -> None:
        wanted = self.answers.total() + answers
        deadline = time.monotonic() + 30
        while self.answers.total() < wanted:
            assert time.monotonic() < deadline, f"too few answers: {self.answers}"
            time.sleep(0.01)

    def _post(self) -> None:
        connection = self._front.connection()
        while not self._ending.is_set():
            try:
                connection.request("POST", self._path, b"{}")
                answer = connection.getresponse()
                received = json.loads(answer.read()) if answer.status == 200 else {"port": 0}
                self.by[received["port"]] += 1
                self.answers[answer.status] += 1
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                self.answers[-1] += 1
                print(repr(error))


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Served, int, int]]:
    """A front with two bots that share a database."""
    with (
        bot() as first,
        bot() as second,
        nginx(tmp_path, (first, second), shared=True, **UNLIMITED) as front,
    ):
        yield front, first, second


def test_bots_with_a_shared_database_are_balanced(two: tuple[Served, int, int]) -> None:
    front, first, second = two
    with Load(front).running() as load:
        load.more(200)
    assert load.answers.keys() == {200}
    assert min(load.by[first], load.by[second]) > 50


def test_console_requests_of_a_client_stay_with_one_bot(two: tuple[Served, int, int]) -> None:
    front, *_ = two
    answers = {front.ask("/console/v1/messages").read() for _ in range(6)}
    assert len({json.loads(answer)["port"] for answer in answers}) == 1


def test_draining_and_restoring_bots_under_load_fails_no_request(
    two: tuple[Served, int, int],
) -> None:
    front, *bots = two
    with Load(front).running() as load:
        load.more(100)
        for drained, other in (bots, bots[::-1]):
            name = f"127.0.0.1:{drained}"
            done = front.upstream("drain", name)
            assert (done.returncode, done.stdout) == (0, f"{name} down\n")
            assert front.down() == [name]
            before = load.by[drained]
            load.more(100)
            assert load.by[drained] == before, "a drained bot is still asked"
            last = front.upstream("drain", f"127.0.0.1:{other}")
            assert last.returncode == 3
            assert "last" in last.stderr
            assert front.upstream("restore", name).stdout == f"{name} up\n"
            load.more(200)
            assert load.by[drained] > before
    assert load.answers.keys() == {200}, load.answers
    assert front.down() == []


def test_reloads_fail_no_request_on_kept_connections(two: tuple[Served, int, int]) -> None:
    front, *_ = two
    with Load(front).running(clients=8) as load:
        for _ in range(40):
            load.more(20)
            front.reload()
            time.sleep(0.05)
        load.more(100)
    assert load.answers.keys() == {200}, load.answers


def test_drain_and_restore_are_idempotent(two: tuple[Served, int, int]) -> None:
    front, first, _ = two
    name = f"127.0.0.1:{first}"
    original = (front.folder / "upstreams.conf").read_text()
    masters = (front.folder / "nginx.pid").read_text()
    for _ in range(2):
        assert front.upstream("restore", name).returncode == 0
    assert workers(masters) == workers(masters)
    assert front.upstream("drain", name).returncode == 0
    once = workers(masters)
    assert front.upstream("drain", name).returncode == 0
    assert workers(masters) == once, "nothing to load: no reload, which would end connections"
    assert front.upstream("restore", name).returncode == 0
    assert (front.folder / "upstreams.conf").read_text() == original


def test_drain_waits_for_an_open_stream_until_its_time_limit(tmp_path: Path) -> None:
    def stream(front: Served, until: Path) -> http.client.HTTPResponse:
        return front.ask("/console/v1/messages", "POST", b"{}", {"X-Wait": str(until)})

    with bot() as first, bot() as second:
        names = [f"127.0.0.1:{port}" for port in (first, second)]
        with nginx(tmp_path, (first, second), shared=True, **UNLIMITED) as front:
            asked = json.loads(front.ask("/console/v1/messages").read())["port"]
            busy, idle = names if asked == first else names[::-1]
            ended = tmp_path / "ended"
            answer = stream(front, ended)
            begun = time.monotonic()
            assert front.upstream("drain", busy, "1").stdout.strip().endswith("still run there")
            assert time.monotonic() - begun >= 1
            ending = threading.Timer(1, ended.touch)
            ending.start()
            assert front.upstream("drain", busy, "20").stdout == f"{busy} down\n"
            assert ended.exists(), "it waits until the stream has ended"
            assert answer.read().count(b"data:") == 2
            front.upstream("restore", busy)
            answer = stream(front, tmp_path / "ended later")
            # Had it waited for the stream of the other bot, it would report that requests still run there.
            assert front.upstream("drain", idle, "3").stdout == f"{idle} down\n"
            (tmp_path / "ended later").touch()
            assert answer.read().count(b"data:") == 2


def test_drain_killed_before_the_reload_is_completed_by_the_next_call(two: tuple[Served, int, int]) -> None:
    front, first, _ = two
    name = f"127.0.0.1:{first}"
    program = (front.folder / "upstream.py").read_text()
    (front.folder / "killed.py").write_text(
        program.replace("def reload():", "def reload():\n    os.kill(os.getpid(), signal.SIGKILL)")
    )
    killed = subprocess.run([sys.executable, str(front.folder / "killed.py"), "drain", name], timeout=30)
    assert killed.returncode == -signal.SIGKILL
    assert front.down() == [name]
    assert asked_by(front, 20)[first] > 0, "nginx does not know of it yet"
    assert front.upstream("drain", name).returncode == 0
    assert asked_by(front, 20)[first] == 0


def test_change_refused_by_nginx_is_undone(two: tuple[Served, int, int]) -> None:
    front, first, _ = two
    upstreams, config = front.folder / "upstreams.conf", front.folder / "nginx.conf"
    before = upstreams.read_text()
    config.write_text(config.read_text().replace("tcp_nodelay on;", "nonsense on;"))
    refused = front.upstream("drain", f"127.0.0.1:{first}")
    assert refused.returncode == 1
    assert 'unknown directive "nonsense"' in refused.stderr
    assert upstreams.read_text() == before
    assert asked_by(front, 20)[first] > 0


@pytest.mark.parametrize(
    "words", [(), ("drain",), ("drain", "127.0.0.1:1"), ("restore", "x"), ("drain", "a", "b")]
)
def test_invalid_arguments_exit_with_2_and_usage(
    two: tuple[Served, int, int], words: tuple[str, ...]
) -> None:
    completed = two[0].upstream(*words)
    assert completed.returncode == 2
    assert completed.stderr


def test_standby_bot_answers_while_the_first_is_drained_without_shared_database(tmp_path: Path) -> None:
    with bot() as first, bot() as second, nginx(tmp_path, (first, second), **UNLIMITED) as front:
        assert asked_by(front, 10) == {first: 10}
        assert front.upstream("drain", f"127.0.0.1:{first}").returncode == 0
        assert asked_by(front, 10) == {second: 10}


def test_killed_bot_fails_no_webhook(tmp_path: Path) -> None:
    with bot() as second, ExitStack() as first_lives:
        first = first_lives.enter_context(bot())
        with nginx(tmp_path, (first, second), shared=True, **UNLIMITED) as front:
            with Load(front).running() as load:
                load.more(200)
                first_lives.close()
                load.more(300)
            assert load.answers.keys() == {200}, load.answers


def test_bot_without_database_connection_fails_no_webhook(tmp_path: Path) -> None:
    """It answers 503; only bots that know of each other's events are asked one after the other."""
    with bot(status=503) as ill, bot() as well:
        for name in ("shared", "apart"):
            (tmp_path / name).mkdir()
        with nginx(tmp_path / "shared", (ill, well), shared=True, **UNLIMITED) as front:
            assert asked_by(front, 20) == {well: 20}
        with nginx(tmp_path / "apart", (ill, well), **UNLIMITED) as front:
            assert front.ask("/telegram/webhook", "POST", b"{}").status == 503


def test_unreachable_bot_address_fails_no_webhook(tmp_path: Path) -> None:
    with bot() as second, nginx(tmp_path, (free_port(), second), shared=True, **UNLIMITED) as front:
        assert asked_by(front, 20) == {second: 20}


def test_hanging_bot_fails_no_webhook_and_is_passed_over_in_time(tmp_path: Path) -> None:
    with (
        bot(going=threading.Event()) as hung,
        bot() as well,
        nginx(tmp_path, (hung, well), shared=True, **UNLIMITED) as front,
    ):
        for path, patience in (("/feishu/webhook", 2.9), ("/telegram/webhook", 10.0)):
            begun = time.monotonic()
            assert asked_by(front, 2, path) == {well: 2}
            assert time.monotonic() - begun < patience, "one of the two went to the hung bot first"


def test_pause_of_all_bots_fails_no_webhook_and_marks_none_as_down(tmp_path: Path) -> None:
    going = threading.Event()
    going.set()
    with (
        bot(going=going) as first,
        bot(going=going) as second,
        nginx(tmp_path, (first, second), shared=True, **UNLIMITED) as front,
        Load(front, "/feishu/webhook").running(clients=16) as load,
    ):
        load.more(100)
        going.clear()
        time.sleep(2.5)
        going.set()
        load.more(300)
    assert load.answers.keys() == {200}, load.answers


def asked_by(front: Served, requests: int, path: str = "/telegram/webhook") -> Counter[int]:
    answers = [front.ask(path, "POST", b"{}") for _ in range(requests)]
    return Counter(json.loads(answer.read())["port"] for answer in answers)


def workers(master: str) -> list[str]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", master.strip()], capture_output=True, text=True)
    return found.stdout.split()
