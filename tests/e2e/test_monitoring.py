"""Prometheus watches a real bot from another host; made slow, it is told of by alerts in both chats.

The deployment is the program's own (`clawd-provision up`), the times between are declared ones: it measures
every two seconds, and thresholds need to be exceeded for six. Telegram and Feishu are the stand-ins.
"""

from __future__ import annotations

import asyncio
import shlex
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from provision import sandbox
from provision.sandbox import Layout
from tests.e2e.world import World
from tests.standins.control import Control
from tests.standins.feishu.app import FeishuStandin
from tests.standins.feishu.state import Credentials
from tests.standins.outbound import Reach
from tests.standins.serve import serving
from tests.standins.telegram.app import TelegramStandin
from tests.standins.telegram.webhook import Rules

pytestmark = pytest.mark.campaign

CHAT, ROOM = -100200300, "oc_ops"
TELEGRAM_PORT, FEISHU_PORT, MODEL_PORT = 8083, 8084, 8085
ANSWER_SECONDS = 2.0
# Whoever writes has to wait for this lock, as for a disk that is slow.
SLOW_DISK = """
import sqlite3, time
connection = sqlite3.connect("/var/lib/clawd-bot/bot.db", timeout=30, isolation_level=None)
while True:
    connection.execute("BEGIN IMMEDIATE")
    time.sleep(2.5)
    connection.execute("ROLLBACK")
    time.sleep(0.1)
"""


def slow_model() -> Starlette:
    """A model's server that needs `ANSWER_SECONDS` for an answer."""

    async def complete(_: Request) -> Response:
        return StreamingResponse(pieces(), media_type="text/event-stream")

    async def pieces() -> AsyncIterator[str]:
        await asyncio.sleep(ANSWER_SECONDS)
        yield 'data: {"choices": [{"delta": {"content": "done"}, "finish_reason": "stop"}]}\n\n'
        yield "data: [DONE]\n\n"

    async def alive(_: Request) -> Response:
        return Response("{}")

    return Starlette(
        routes=[Route("/v1/chat/completions", complete, methods=["POST"]), Route("/v1/models", alive)]
    )


@dataclass
class Watched:
    """The hosts `watch` (Debian 12) and `bot` (Debian 13), and the platforms."""

    world: World
    telegram: Control
    feishu: Control
    runs: dict[str, Any]

    def alerts(self) -> tuple[str, str]:
        """All that was told in both chats."""
        told = [message["text"] for message in self.telegram.get("sent", chat_id=str(CHAT))]
        return "\n".join(told), str(self.feishu.get("sent", chat_id=ROOM))

    def wait_for(self, words: str, seconds: float) -> float:
        """Seconds until both chats were told of `words`."""
        begun = time.monotonic()
        while not all(words in told for told in self.alerts()):
            assert time.monotonic() - begun < seconds, self.alerts()
            time.sleep(0.5)
        return time.monotonic() - begun


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    box = Layout(
        folder / "sandbox", bridge="clmo", subnet=IPv4Network("10.213.95.0/24"), table="clawd_mon_test"
    )
    world = World(folder, box)
    sandbox.down(purge=True, layout=box)
    with ExitStack() as stack:
        stack.callback(sandbox.down, purge=True, layout=box)
        sandbox.up(hosts=2, releases=("bookworm", "trixie"), layout=box)
        machine = str(box.machine_address)
        rules = Rules(Reach(), reserved_addresses=True, pace=0.1)
        telegram_app = TelegramStandin([world.secret("telegram-token")], rules).app
        names = ("feishu-app-secret", "feishu-encrypt-key", "feishu-verification-token")
        app = Credentials("cli_e2e", *(world.secret(name) for name in names))
        feishu_app = FeishuStandin(app, Reach()).app
        stack.enter_context(serving(slow_model(), host=machine, port=MODEL_PORT))
        telegram, feishu = (
            stack.enter_context(Control(stack.enter_context(serving(made, host=machine, port=port))))
            for made, port in ((telegram_app, TELEGRAM_PORT), (feishu_app, FEISHU_PORT))
        )
        telegram.post("chats", id=CHAT, type="supergroup", title="ops")
        feishu.post("chats", id=ROOM, type="group")
        declare(world)
        runs = {"first": world.run("up", "-i", "watched", "--yes", "--no-verify", "--json")}
        assert runs["first"].returncode == 0, runs["first"].stderr[-6000:] + runs["first"].stdout[-3000:]
        yield Watched(world, telegram, feishu, runs)


def declare(world: World) -> None:
    box, secrets = world.layout, world.layout.secrets
    machine = box.machine_address
    login = f"user: operator, ssh_key: {box.key}"
    (world.folder / "inventory").mkdir()
    (world.folder / "inventory" / "watched.yml").write_text(f"""project: watched
known_hosts: {box.known_hosts}
hosts:
  watch: {{address: {box.address("bot1")}, {login}, roles: [monitoring]}}
  bot: {{address: {box.address("bot2")}, {login}, roles: [runtime, nginx]}}
models:
  default: {{engine: openai-compatible, endpoint: "http://{machine}:{MODEL_PORT}/v1", model: scripted}}
bot:
  language: zh
  rate_limit_per_minute: 10000
channels:
  telegram:
    token: !file {secrets}/telegram-token
    secret_token: !file {secrets}/telegram-secret-token
    api_base: http://{machine}:{TELEGRAM_PORT}
  feishu:
    app_id: cli_e2e
    app_secret: !file {secrets}/feishu-app-secret
    encrypt_key: !file {secrets}/feishu-encrypt-key
    verification_token: !file {secrets}/feishu-verification-token
    api_base: http://{machine}:{FEISHU_PORT}
monitoring:
  scrape_interval: 2
  evaluation_interval: 2
  window: 20
  sustained: 6
  alerts:
    token: !file {secrets}/console-jwt-secret
    telegram_chat: {CHAT}
    feishu_chat: {ROOM}
    group_wait: 1
    group_interval: 5
""")


class Talk:
    """People who keep writing to the bot."""

    def __init__(self, telegram: Control) -> None:
        self._telegram, self._over = telegram, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Talk:
        self._thread.start()
        return self

    def __exit__(self, *about: object) -> None:
        self._over.set()
        self._thread.join(30)

    def _run(self) -> None:
        person = 0
        while not self._over.wait(0.4):
            person += 1
            chat = {"id": 5000 + person % 40, "type": "private"}
            self._telegram.post("messages", text="hello", chat=chat)


def test_a_second_run_changes_nothing(watched: Watched) -> None:
    again = watched.world.json("up", "-i", "watched", "--yes")
    changed = {host["host"]: host["changed"] for host in again["result"]["hosts"]}
    assert changed == {"watch": [], "bot": []}


def test_everything_is_measured(watched: Watched) -> None:
    time.sleep(6)
    tags = ("--tags", "exporters,prometheus,alertmanager")
    done = watched.world.run("verify", "-i", "watched", *tags)
    assert done.returncode == 0, done.stdout[-4000:]


def test_only_the_monitoring_host_reaches_the_metrics(watched: Watched) -> None:
    address = watched.world.address("bot2")
    program = "import sys, urllib.request as u; u.urlopen(sys.argv[1], timeout=4).read()"
    for port in (8080, 9100, 9113):
        asked = f"python3 -c {shlex.quote(program)} http://{address}:{port}/metrics"
        assert watched.world.on("bot1", asked, check=False).returncode == 0
        with pytest.raises(TimeoutError):
            socket.create_connection((address, port), timeout=2)


def test_a_slow_bot_is_told_of_and_its_recovery(watched: Watched) -> None:
    world = watched.world
    world.on("bot2", f"systemd-run -q --unit slow python3 -c {shlex.quote(SLOW_DISK)}")
    try:
        with Talk(watched.telegram):
            by_answers = watched.wait_for("SlowMessages", 180)
            by_requests = by_answers + watched.wait_for("HighLatency", 180)
    finally:
        world.on("bot2", "systemctl stop slow")
    print(f"SlowMessages was told after {by_answers:.0f} s, HighLatency after {by_requests:.0f} s")
    print(watched.alerts()[0])
    print(f"the recovery was told after {watched.wait_for('已恢复', 180):.0f} s")
    telegram, _ = watched.alerts()
    assert "🔥 告警 [warning] HighLatency · bot\nHTTP 请求 P99 延迟为" in telegram
    once = [line for line in telegram.split("\n") if line.startswith("🔥 告警 [warning] HighLatency")]
    assert len(once) == 1, "one alert was told more than once"
