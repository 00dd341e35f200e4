"""Two bots on one PostgreSQL; they are killed, replaced and suspended, and the database is restarted.

No message is lost or answered twice, and each conversation is answered in order.
"""

from __future__ import annotations

import itertools
import json
import random
import re
import signal
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.bot.postgres import PASSWORD, Server, serving_postgres
from tests.bot.program import Program, free_port, model_server
from tests.bot.test_crash import APP, CHATS, TOKEN, Scene
from tests.standins.control import Control
from tests.standins.feishu.app import FeishuStandin
from tests.standins.plain_http import NO_TLS
from tests.standins.serve import serving
from tests.standins.telegram.app import TelegramStandin

pytestmark = pytest.mark.slow

JWT_SECRET = "console-secret-0123456789abcdef-0123456789"
CREDENTIALS = {
    "telegram-token": TOKEN,
    "feishu-app-secret": APP.app_secret,
    "feishu-encrypt-key": APP.encrypt_key,
    "feishu-verification-token": APP.verification_token,
    "console-jwt-secret": JWT_SECRET,
    "database-password": PASSWORD,
}


def front(bots: list[Program], statuses: Counter[int]) -> Starlette:
    """Return a proxy that sends each request to the next bot, or to the other if it fails, as nginx does."""
    turns = itertools.count()

    async def passed(request: Request) -> Response:
        body, first = await request.body(), next(turns)
        headers = {name: value for name, value in request.headers.items() if name != "host"}
        async with httpx.AsyncClient(trust_env=False, verify=NO_TLS, timeout=10.0) as http:
            for each in range(len(bots)):
                bot = bots[(first + each) % len(bots)]
                try:
                    answer = await http.post(f"{bot.url}{request.url.path}", content=body, headers=headers)
                except httpx.TransportError:
                    continue
                if answer.status_code < 500:
                    statuses[answer.status_code] += 1
                    return Response(answer.content, answer.status_code)
        statuses[502] += 1
        return Response(status_code=502)

    return Starlette(routes=[Route("/feishu/webhook", passed, methods=["POST"])])


class Cluster:
    """Two bots behind a proxy, with both stand-ins, a model and a separate database."""

    def __init__(
        self, bots: list[Program], scene: Scene, server: Server, database: str, statuses: Counter[int]
    ) -> None:
        self.bots = bots
        self.scene = scene
        self.server = server
        self.database = database
        self.statuses = statuses

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with self.server.connect(self.database) as connection:
            return list(connection.execute(query).fetchall())

    def eventually(self, what: str, count: int, seconds: float = 30.0) -> float:
        """Wait until the query returns this many rows; return how long it took."""
        started = time.monotonic()
        while len(self.rows(what)) != count:
            assert time.monotonic() < started + seconds, (what, self.rows(what)[:20], self.logs())
            time.sleep(0.02)
        return time.monotonic() - started

    def logs(self) -> str:
        return "\n".join(f"{bot.folder}\n{bot.log.read_text()[-3000:]}" for bot in self.bots)

    def texts(self) -> list[tuple[Any, ...]]:
        return self.rows("SELECT id, text FROM outbox")

    def once_in_doubt(self) -> set[int]:
        logs = "".join(bot.log.read_text() for bot in self.bots)
        return {int(id) for id in re.findall(r"reply (\d+) \(.*?\): doubtful", logs)}

    def settle(self, seconds: float = 60.0) -> None:
        self.eventually("SELECT seq FROM inbox WHERE outcome IS NULL", 0, seconds)
        self.eventually("SELECT id FROM outbox WHERE state IN ('pending', 'sending')", 0, seconds)

    def check(self, doubts: int) -> int:
        """Check that every message is answered once and in order; return how many are doubtful."""
        rows = self.rows("SELECT text FROM outbox WHERE state = 'doubtful'")
        doubtful = {text.removeprefix("re: ") for (text,) in rows}
        # A bot that was suspended during a send may have completed it when it resumed, and recorded that.
        late = {text.removeprefix("re: ") for id, text in self.texts() if id in self.once_in_doubt()}
        for lane, texts in self.scene.asked.items():
            platform = lane.partition("-")[0]
            answered = Counter(self.scene.answers(platform))
            for text in texts:
                if platform == "telegram" and text in doubtful:
                    assert answered[text] <= 1, text
                else:
                    assert answered[text] == 1, (text, answered[text])
            if platform == "telegram":
                sure = [text for text in texts if text not in late]
                in_order = [text for text in self.scene.answers(platform) if text in sure]
                assert in_order == [text for text in sure if answered[text]]
        assert all(text.startswith("telegram") for text in doubtful)
        assert len(doubtful) <= doubts
        assert self.rows("SELECT 1 FROM outbox WHERE state = 'dead'") == []
        assert self.rows("SELECT key FROM outbox GROUP BY event_id, channel, key HAVING count(*) > 1") == []
        return len(doubtful)


@contextmanager
def cluster(folder: Path, server: Server, pause: float = 0.02, **more: Any) -> Iterator[Cluster]:
    url = server.new_database()
    with ExitStack() as stack:
        telegram_url = stack.enter_context(serving(TelegramStandin([TOKEN]).app))
        feishu_url = stack.enter_context(serving(FeishuStandin(APP, pace=0.02).app))
        model_url = stack.enter_context(serving(model_server(pause=pause)))
        telegram, feishu = (stack.enter_context(Control(url)) for url in (telegram_url, feishu_url))
        channels = {
            "telegram": {"mode": "polling", "api_base": telegram_url},
            "feishu": {"app_id": APP.app_id, "api_base": feishu_url},
            "console": {},
        }
        bots = []
        for name in ("a", "b"):
            (folder / name).mkdir()
            bot = Program(folder / name, model_url, channels, CREDENTIALS, **{"database": url} | more)
            bots.append(stack.enter_context(bot))
        scene = Scene(telegram, feishu)
        statuses = Counter[int]()
        front_url = stack.enter_context(serving(front(bots, statuses)))
        for bot in bots:
            bot.start()
        for bot in bots:
            bot.wait_alive()
        feishu.post("webhook", url=f"{front_url}/feishu/webhook")
        yield Cluster(bots, scene, server, url.rpartition("/")[2], statuses)
        for bot in bots:
            if bot.process and bot.process.poll() is None:
                assert bot.terminate() == 0, bot.log.read_text()[-3000:]
            assert PASSWORD not in bot.log.read_text()


def ask(bot: Program, text: str, id: str, user: str = "ada") -> str:
    token = jwt.encode({"sub": user, "exp": time.time() + 60, "jti": uuid.uuid4().hex}, JWT_SECRET)
    return httpx.post(
        f"{bot.url}/console/v1/messages",
        json={"text": text, "id": id},
        headers={"Authorization": f"Bearer {token}"},
        trust_env=False,
        verify=NO_TLS,
        timeout=30.0,
    ).text


def campaign(running: Cluster, rounds: int, seed: int, restarts: bool) -> dict[str, Any]:
    """Write messages and disturb a bot or the database, repeatedly; return counts of what happened."""
    chance, done = random.Random(seed), Counter[str]()
    for number in range(rounds):
        running.scene.write()
        time.sleep(chance.uniform(0.0, 0.3))
        what = chance.choice(
            ["kill", "kill", "replace", *(["database", "crash", "stop"] if restarts else [])]
        )
        done[what] += 1
        bot = running.bots[number % 2]
        match what:
            case "kill":
                bot.kill()
                bot.start()
            case "replace":
                assert bot.terminate() == 0
                bot.start()
            case "database" | "crash":
                running.server.stop(signal.SIGINT if what == "database" else signal.SIGQUIT)
                time.sleep(chance.uniform(0.0, 1.0))
                running.server.start()
            case "stop":
                assert bot.process is not None
                bot.process.send_signal(signal.SIGSTOP)
                time.sleep(15.0)
                bot.process.send_signal(signal.SIGCONT)
        for each in running.bots:
            each.wait_alive()
    count = sum(len(texts) for texts in running.scene.asked.values())
    deadline = time.monotonic() + 60.0
    while len(running.rows("SELECT 1 FROM inbox")) < count:
        assert time.monotonic() < deadline, running.logs()
        running.scene.redeliver_everything()
        time.sleep(1.0)
    running.scene.redeliver_everything()
    running.settle()
    doubts = running.check(2 * rounds * len(CHATS))
    return {"messages": count, "doubtful": doubts, **done}


@pytest.mark.timeout(180)
def test_bots_killed_and_replaced_at_any_instant(tmp_path: Path, postgres: Server) -> None:
    with cluster(tmp_path, postgres) as running:
        counts = campaign(running, 6, seed=3, restarts=False)
        assert counts["messages"] == 36


@pytest.mark.campaign
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_bots_killed_and_database_restarted(tmp_path: Path, seed: int) -> None:
    with serving_postgres(free_port()) as server, cluster(tmp_path, server) as running:
        counts = campaign(running, 60, seed=seed, restarts=True)
        print(json.dumps(counts))


def roll(running: Cluster, times: int) -> None:
    """Replace one bot after the other, as a rolling update does."""
    for number in range(times):
        time.sleep(0.5)
        bot = running.bots[number % 2]
        assert bot.terminate() == 0
        bot.start()
        bot.wait_alive()


def update_under_load(running: Cluster, rounds: int, times: int) -> None:
    with ThreadPoolExecutor(1) as other:
        rolling = other.submit(roll, running, times)
        for _ in range(rounds):
            running.scene.write()
        rolling.result()
    running.eventually("SELECT 1 FROM inbox", rounds * 2 * len(CHATS), 120.0)
    running.settle(240.0)
    assert running.statuses.keys() == {200}  # late requests were repeated, none was refused
    running.check(3)  # a connection that a stand-in closes during reuse leaves a doubtful reply
    assert running.rows("SELECT text FROM outbox WHERE problem LIKE '%the bot stopped%'") == []


@pytest.mark.timeout(120)
def test_rolling_update_fails_no_request(tmp_path: Path, postgres: Server) -> None:
    with cluster(tmp_path, postgres) as running:
        update_under_load(running, 20, 2)


@pytest.mark.campaign
@pytest.mark.timeout(1200)
def test_ten_rolling_updates_under_load(tmp_path: Path) -> None:
    with serving_postgres(free_port()) as server, cluster(tmp_path, server) as running:
        update_under_load(running, 500, 20)


@pytest.mark.timeout(120)
def test_work_of_killed_bot_is_taken_over_within_seconds(tmp_path: Path, postgres: Server) -> None:
    with cluster(tmp_path, postgres, pause=1.0) as running:
        running.scene.write()
        running.eventually("SELECT 1 FROM inbox WHERE owner IS NOT NULL", 6)
        running.bots[0].kill()
        assert running.eventually("SELECT id FROM members", 1) < 5.0
        running.settle()
        running.check(3)
        assert "taking over its work" in running.bots[1].log.read_text()


@pytest.mark.timeout(120)
def test_stopping_bot_releases_work_immediately(tmp_path: Path, postgres: Server) -> None:
    with cluster(tmp_path, postgres, pause=0.5, answers_at_once=1) as running:
        running.scene.write()
        running.eventually("SELECT 1 FROM inbox WHERE owner IS NOT NULL", 6)
        leaving = re.findall(r"joined as member (\d+)", running.bots[0].log.read_text())[-1]
        process = running.bots[0].process
        assert process is not None
        process.terminate()
        # All but the one whose answer has started.
        held = f"SELECT seq FROM inbox WHERE outcome IS NULL AND owner = {leaving}"
        while len(running.rows(held)) > 1:
            assert process.poll() is None, "it ended with work that it still owned"
        running.settle()
        assert process.wait(30.0) == 0
        assert running.check(0) == 0


@pytest.mark.timeout(120)
def test_conversation_is_shared_by_two_bots(tmp_path: Path, postgres: Server) -> None:
    """History, `/new` and rate limit are shared, and a repeated request gets its answer from either bot."""
    with cluster(tmp_path, postgres, rate_limit_per_minute=3) as running:
        one, other = running.bots
        assert '"re: first"' in ask(one, "first", "1")
        assert '"re: second"' in ask(other, "second", "2")
        assert '"re: first"' in ask(other, "anything", "1")
        said = running.rows("SELECT role, text, generation FROM turns ORDER BY id")
        assert [text for _, text, _ in said] == ["first", "re: first", "second", "re: second"]
        assert "forgotten" in ask(one, "/new", "3")
        assert running.rows("SELECT generation FROM conversations") == [(1,)]
        assert "at most 3 per minute" in ask(other, "one too many", "4")
        assert "no answer" in ask(one, "and another", "5")


@pytest.mark.timeout(120)
def test_requests_while_database_is_down(tmp_path: Path) -> None:
    with serving_postgres(free_port()) as server, cluster(tmp_path, server) as running:
        bot = running.bots[0]
        assert bot.get("/readyz").json()["database"] is True
        server.stop()
        assert bot.get("/readyz").json()["database"] is False
        assert "database error" in ask(bot, "hello", "1")
        assert bot.get("/healthz").status_code == 200
        before = {each.process.pid for each in running.bots if each.process}
        server.start()
        deadline = time.monotonic() + 10.0
        while bot.get("/readyz").status_code != 200:
            assert time.monotonic() < deadline, running.logs()
            time.sleep(0.05)
        assert '"re: hello"' in ask(bot, "hello", "1")
        assert {each.process.pid for each in running.bots if each.process} == before
