"""Prometheus watches a real bot from another host; made slow, it fires alerts in both chats.

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
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any, Self

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from provision.sandbox import Layout
from tests.e2e.deployment import World
from tests.platforms import MODEL_PORT, feishu_at, telegram_at
from tests.standins.control import Control
from tests.standins.outbound import Reach
from tests.standins.serve import serving

pytestmark = pytest.mark.campaign

CHAT, ROOM = -100200300, "oc_ops"
ANSWER_SECONDS = 2.0
# A process that writes has to wait for this lock, as for a disk that is slow.
SLOW_DISK = """
import sqlite3, time
connection = sqlite3.connect("/var/lib/clawd-bot/bot.db", timeout=30, isolation_level=None)
while True:
    connection.execute("BEGIN IMMEDIATE")
    time.sleep(2.5)
    connection.execute("ROLLBACK")
    time.sleep(0.1)
"""


# As Prometheus does, with the host's certificate; without it when there is a second argument.
SCRAPE = """
import ssl, sys, urllib.request
folder = "/etc/clawd/monitoring/"
context = ssl.create_default_context(cafile=folder + "ca.pem")
if not sys.argv[2:]:
    context.load_cert_chain(folder + "fullchain.pem", folder + "privkey.pem")
urllib.request.urlopen(sys.argv[1], timeout=4, context=context).read()
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
        """Return the text of all alerts in both chats."""
        texts = [message["text"] for message in self.telegram.get("sent", chat_id=str(CHAT))]
        return "\n".join(texts), str(self.feishu.get("sent", chat_id=ROOM))

    def wait_for(self, words: str, seconds: float) -> float:
        """Return the seconds until both chats got `words`."""
        begun = time.monotonic()
        while not all(words in text for text in self.alerts()):
            assert time.monotonic() - begun < seconds, self.alerts()
            time.sleep(0.5)
        return time.monotonic() - begun


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    box = Layout(
        folder / "sandbox", bridge="clem", subnet=IPv4Network("10.213.174.0/24"), table="clawd_mon_test"
    )
    world = World(folder, box)
    with (
        world.fresh(),
        serving(slow_model(), host=world.here, port=MODEL_PORT),
        telegram_at(world.here, world.secret("telegram-token")) as telegram,
        feishu_at(world.here, world.feishu_app, Reach()) as feishu,
    ):
        telegram.post("chats", id=CHAT, type="supergroup", title="ops")
        feishu.post("chats", id=ROOM, type="group")
        declare(world)
        runs = {"first": world.run("up", "-i", "watched", "--yes", "--no-verify", "--json")}
        assert runs["first"].returncode == 0, runs["first"].stderr[-6000:] + runs["first"].stdout[-3000:]
        yield Watched(world, telegram, feishu, runs)


def declare(world: World) -> None:
    world.declare(
        "watched",
        f"""project: watched
known_hosts: {world.layout.known_hosts}
hosts:
  watch: {{{world.login("bot1")}, roles: [monitoring]}}
  bot: {{{world.login("bot2")}, roles: [runtime, nginx]}}
models:
  default: {{engine: openai-compatible, endpoint: "http://{world.here}:{MODEL_PORT}/v1", model: scripted}}
bot:
  language: zh
  rate_limit_per_minute: 10000
  rate_limit_reason: the test writes without pause
{world.channels}
monitoring:
  scrape_interval: 2
  evaluation_interval: 2
  window: 20
  sustained: 6
  alerts:
    token: !file {world.layout.secrets}/console-jwt-secret
    telegram_chat: {CHAT}
    feishu_chat: {ROOM}
    group_wait: 1
    group_interval: 5
""",
    )


class Talk:
    """People who keep writing to the bot."""

    def __init__(self, telegram: Control) -> None:
        self._telegram, self._over = telegram, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
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


def test_second_up_changes_nothing(watched: Watched) -> None:
    again = watched.world.json("up", "-i", "watched", "--yes")
    changed = {host["host"]: host["changed"] for host in again["result"]["hosts"]}
    assert changed == {"watch": [], "bot": []}


def test_checks_of_monitoring_pass_after_the_first_scrapes(watched: Watched) -> None:
    time.sleep(6)
    tags = ("--tags", "exporters,prometheus,alertmanager")
    done = watched.world.run("verify", "-i", "watched", *tags)
    assert done.returncode == 0, done.stdout[-4000:]


def test_only_the_monitoring_host_may_scrape_metrics(watched: Watched) -> None:
    address = watched.world.address("bot2")
    for port in (8444, 9100, 9113):
        asked = f"python3 -c {shlex.quote(SCRAPE)} https://{address}:{port}/metrics"
        assert watched.world.on("bot1", asked, check=False).returncode == 0
        assert watched.world.on("bot1", f"{asked} stranger", check=False).returncode != 0
        with pytest.raises(TimeoutError):
            socket.create_connection((address, port), timeout=2)


def test_slow_bot_fires_alerts_in_both_chats_and_recovery_resolves_them(watched: Watched) -> None:
    world = watched.world
    world.on("bot2", f"systemd-run -q --unit slow python3 -c {shlex.quote(SLOW_DISK)}")
    try:
        with Talk(watched.telegram):
            by_answers = watched.wait_for("SlowMessages", 180)
            by_requests = by_answers + watched.wait_for("HighLatency", 180)
    finally:
        world.on("bot2", "systemctl stop slow")
    print(f"SlowMessages arrived after {by_answers:.0f} s, HighLatency after {by_requests:.0f} s")
    print(watched.alerts()[0])
    print(f"the recovery arrived after {watched.wait_for('已恢复', 180):.0f} s")
    telegram, _ = watched.alerts()
    assert "🔥 告警 [warning] HighLatency · bot\nHTTP 请求 P99 延迟为" in telegram
    once = [line for line in telegram.split("\n") if line.startswith("🔥 告警 [warning] HighLatency")]
    assert len(once) == 1, "one alert was sent more than once"
