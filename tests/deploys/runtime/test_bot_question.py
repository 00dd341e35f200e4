"""A question of `verify`: what counts as an answer, and what is said of everything else."""

from __future__ import annotations

import inspect
import json
import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import jwt
import pytest
from pydantic import SecretStr

from clawd_runtime.bot.handling import worker
from clawd_runtime.bot.text.messages import CATALOGUE
from deploys.nginx.settings import NginxSettings
from deploys.nginx.settings import settings_for as nginx_settings
from deploys.ops.checks import CheckFailed
from deploys.runtime.bot_question import expect_answer
from deploys.runtime.console import console_secret
from tests.deployment import ROOT
from tests.deploys.inventories import CHANNELS, SECRETS, inventory
from tests.deploys.nginx.front import free_port
from tests.hosts import until

pytestmark = pytest.mark.slow

SECRET = SecretStr("0123456789abcdef0123456789abcdef")


class Here:
    """A testinfra host that is this machine."""

    def run(self, command: str, *args: str, stdin: str = "") -> Any:
        assert command == "python3 -c %s"
        assert not any("ey" in word and SECRET.get_secret_value() in word for word in args)
        done = subprocess.run(
            [sys.executable, "-c", *args],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        return SimpleNamespace(rc=done.returncode, stdout=done.stdout, stderr=done.stderr)


@pytest.fixture
def bot() -> Iterator[Callable[..., int]]:
    """Serves a console that answers so; returns its port."""
    servers: list[ThreadingHTTPServer] = []

    def serve(
        *events: tuple[str, dict[str, str]], status: int = 200, statuses: dict[str, int] | None = None
    ) -> int:
        class Console(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                asked.append((self.path, body["text"], self.headers["Authorization"]))
                self.send_response((statuses or {}).get(body["text"], status))
                self.end_headers()
                for event, data in events:
                    self.wfile.write(f"event: {event}\ndata: {json.dumps(data)}\n\n".encode())

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Console)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return int(server.server_address[1])

    asked.clear()
    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


class Model(BaseHTTPRequestHandler):
    """A model's server that answers every question with `ready`."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        choice = {"delta": {"content": "ready"}, "finish_reason": "stop"}
        self.wfile.write(f"data: {json.dumps({'choices': [choice]})}\n\ndata: [DONE]\n\n".encode())

    def log_message(self, *_: Any) -> None:
        pass


def is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def real_bot(folder: Path) -> Iterator[int]:
    """Run the bot's program with a console; return its port."""
    model = ThreadingHTTPServer(("127.0.0.1", 0), Model)
    threading.Thread(target=model.serve_forever, daemon=True).start()
    port = free_port()
    (folder / "console-jwt-secret").write_text(SECRET.get_secret_value())
    config = {
        "listen": {"host": "127.0.0.1", "port": port},
        "database": f"sqlite:///{folder}/bot.db",
        "models": {"default": {"endpoint": f"http://127.0.0.1:{model.server_port}/v1", "model": "m"}},
        "channels": {"console": {}},
    }
    (folder / "bot.json").write_text(json.dumps(config))
    with (folder / "log").open("wb") as log:
        program = subprocess.Popen(
            [sys.executable, "-P", "-m", "clawd_runtime.bot", "--config", folder / "bot.json"],
            env={"PYTHONPATH": str(ROOT / "runtime"), "CREDENTIALS_DIRECTORY": str(folder)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        until(lambda: is_ready(port), otherwise=(folder / "log").read_text)
        yield port
    finally:
        program.kill()
        program.wait()
        model.shutdown()
        model.server_close()


asked: list[tuple[str, str, str]] = []


def complaint(port: int) -> CheckFailed:
    with pytest.raises(CheckFailed) as caught:
        expect_answer(Here(), "the bot", port, SECRET)
    assert caught.value.hint
    return caught.value


def test_answer_of_a_model_is_an_answer(bot: Callable[..., int]) -> None:
    port = bot(("delta", {"text": "rea"}), ("delta", {"text": "dy"}), ("done", {"text": "ready"}))
    expect_answer(Here(), "the bot", port, SECRET)
    assert [text for _, text, _ in asked] == ["Please answer with the one word: ready", "/new"]
    path, _, authorization = asked[0]
    assert path == "/console/v1/messages"
    assert len({header for _, _, header in asked}) == 2
    claims = jwt.decode(authorization.split()[1], SECRET.get_secret_value(), algorithms=["HS256"])
    assert claims["exp"] - claims["iat"] < 600
    assert claims["jti"]


def test_conversation_of_a_check_is_ended_at_the_real_bot(tmp_path: Path) -> None:
    with real_bot(tmp_path) as port:
        expect_answer(Here(), "the bot", port, SECRET)
        with closing(sqlite3.connect(tmp_path / "bot.db")) as database:
            turns = database.execute("select distinct generation from turns").fetchall()
            assert (turns, database.execute("select generation from conversations").fetchall()) == (
                [(0,)],
                [(1,)],
            )
    assert "refused" not in (tmp_path / "log").read_text()


def test_refusal_to_end_the_conversation_is_reported(bot: Callable[..., int]) -> None:
    port = bot(("done", {"text": "ready"}), statuses={"/new": 401})
    assert "did not end the conversation of this check: status 401" in complaint(port).problem


@pytest.mark.parametrize("text", ["ready", "Ready.", "I am ready to help.", "好的"])
def test_answer_in_one_piece_is_an_answer(bot: Callable[..., int], text: str) -> None:
    expect_answer(Here(), "the bot", bot(("done", {"text": text})), SECRET)


@pytest.mark.parametrize("language", CATALOGUE)
def test_every_apology_of_the_bot_is_recognised(bot: Callable[..., int], language: str) -> None:
    names = {"rate_limited", *re.findall(r"ask\.messages\.(\w+)\)", inspect.getsource(worker))}
    assert {"model_failed", "too_long", "filtered", "only_reasoning", "rejected"} <= names
    for name in names:
        said = getattr(CATALOGUE[language], name).format(limit=6)
        # Pieces of an answer that was given up may have come before.
        error = complaint(bot(("delta", {"text": "rea"}), ("done", {"text": said})))
        assert error.problem.startswith("no model answered the bot, the bot only said: "), name


def test_apology_of_the_bot_is_reported_as_no_answer(bot: Callable[..., int]) -> None:
    error = complaint(bot(("done", {"text": "Sorry, I cannot answer right now."})))
    assert error.problem == "no model answered the bot, the bot only said: Sorry, I cannot answer right now."
    assert "journalctl" in error.hint


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ((("error", {"message": "too many messages"}),), "answered with an error: too many messages"),
        ((("delta", {"text": "rea"}),), "broke off"),
        ((("delta", {"text": " "}), ("done", {"text": " "})), "broke off"),
        ((), "broke off"),
    ],
    ids=["error", "cut off", "blank", "nothing"],
)
def test_malformed_or_empty_answers_are_reported(bot: Callable[..., int], events: Any, said: str) -> None:
    assert said in complaint(bot(*events)).problem


@pytest.mark.parametrize("status", [401, 403, 404, 429, 502, 503])
def test_refused_question_is_reported_with_its_status(bot: Callable[..., int], status: int) -> None:
    error = complaint(bot(status=status))
    assert f"the bot refused a question with {status}" in error.problem
    assert ("clocks" in error.hint) is (status == 401)


def test_unreachable_bot_is_reported() -> None:
    assert "the bot does not answer: " in complaint(1).problem


# The key of the console


def test_declared_console_is_asked_with_its_own_key() -> None:
    secret = console_secret(inventory())
    assert secret is not None
    assert secret.get_secret_value() == SECRETS["console-jwt-secret"]


@pytest.mark.parametrize("channel", ["telegram", "feishu"])
def test_console_key_without_a_declared_console_is_the_same_on_every_laptop(channel: str) -> None:
    declared = {"channels": {channel: CHANNELS[channel]}}
    first, second = console_secret(inventory(**declared)), console_secret(inventory(**declared))
    assert first is not None
    assert first == second
    assert len(first.get_secret_value()) >= 32
    assert first.get_secret_value() not in SECRETS.values()
    assert first != console_secret(inventory(**declared, project="other"))


def test_nginx_admits_only_its_own_host_without_a_declared_console() -> None:
    closed: NginxSettings | None = nginx_settings(
        inventory(channels={"telegram": CHANNELS["telegram"]}), "bot1"
    )
    assert closed is not None
    assert closed.console.allow == ("127.0.0.0/8", "::1/128")
    declared = nginx_settings(inventory(), "bot1")
    assert declared is not None
    assert declared.console.allow == ()


def test_every_front_and_bot_has_the_same_console_key() -> None:
    several = inventory({"web1": ["nginx"], "bot1": ["runtime"], "bot2": ["runtime"]})
    front = nginx_settings(several, "web1")
    assert front is not None
    assert front.questions == console_secret(several)
    assert front.public_name == "10.0.0.1"
