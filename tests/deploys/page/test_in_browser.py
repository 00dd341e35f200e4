"""The page in headless Chromium, served by the real bot behind the real nginx; `make test-browser`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from deploys.nginx.settings import PathSettings
from provision.console_link import AUDIENCE
from tests.deployment import ROOT
from tests.deploys.nginx.front import free_port, nginx
from tests.hosts import until

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(120)]

SECRET = "0123456789abcdef0123456789abcdef"
BROWSER = Path(os.environ.get("CLAWD_TEST_BROWSER", ROOT / ".venv/browser"))
MODULES = Path(os.environ.get("CLAWD_TEST_NODE_MODULES", ROOT / ".venv/node/node_modules"))
LIBRARIES = ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu/pulseaudio")
TABLE = "| Step | Time |\n|---|--:|\n| Copy | 8 min |\n\n```sh\necho a\n```\n"
HOSTILE = "<img src=x onerror='window.hacked = true'><script>window.hacked = true</script>"
ANSWERS = {
    "table": TABLE,
    "hostile": f"{HOSTILE} [a](javascript:window.hacked=true)",
    "slow": "one two three four five six seven eight nine ten",
}


class Model(BaseHTTPRequestHandler):
    """A model whose answer depends on the first word of the question; `slow` takes three seconds."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"][-1]["content"]
        word = asked.split()[0]
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for piece in ANSWERS.get(word, f"re: {asked}").split(" "):
            if word == "slow":
                time.sleep(0.3)
            self._send({"delta": {"content": f"{piece} "}, "finish_reason": None})
        self._send({"delta": {}, "finish_reason": "stop"})
        self.wfile.write(b"data: [DONE]\n\n")

    def _send(self, choice: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps({'choices': [choice]})}\n\n".encode())

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def bot(folder: Path) -> Iterator[int]:
    """Run the bot's program with the page; return its port."""
    model = ThreadingHTTPServer(("127.0.0.1", 0), Model)
    threading.Thread(target=model.serve_forever, daemon=True).start()
    port = free_port()
    (folder / "console-jwt-secret").write_text(SECRET)
    config = {
        "listen": {"host": "127.0.0.1", "port": port},
        "database": f"sqlite:///{folder}/bot.db",
        "rate_limit_per_minute": 1000,
        "models": {"default": {"endpoint": f"http://127.0.0.1:{model.server_port}/v1", "model": "m"}},
        "channels": {"console": {"page": True}},
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
        until(lambda: _is_ready(port), otherwise=(folder / "log").read_text)
        yield port
    finally:
        program.kill()
        program.wait()
        model.shutdown()
        model.server_close()


def _is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


@dataclass(frozen=True)
class Page:
    """The page at its address."""

    url: str
    folder: Path

    def link(self, user: str) -> str:
        now = int(time.time())
        claims = {"sub": user, "aud": AUDIENCE, "iat": now - 60, "exp": now + 600, "jti": f"{time.time_ns()}"}
        return f"{self.url}/console/#login={jwt.encode(claims, SECRET, algorithm='HS256')}"

    def in_browser(self, scenario: str) -> Any:
        """Return what a scenario of `tests/node/page_in_browser.js` observes, as a user of its own."""
        chromium = BROWSER / "usr/lib/chromium/chromium"
        assert chromium.exists(), f"{chromium} is missing: run `make test-browser`"
        given = {
            "chromium": str(chromium),
            "url": self.url,
            "links": [self.link(scenario), self.link(f"{scenario} 2")],
        }
        environment = {
            "CLAWD_TEST_NODE_MODULES": str(MODULES),
            "LD_LIBRARY_PATH": ":".join(str(BROWSER / folder) for folder in LIBRARIES),
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
        }
        done = subprocess.run(
            ["node", ROOT / "tests/node/page_in_browser.js", scenario],
            input=json.dumps(given),
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    unlimited = PathSettings(requests_per_second=1000, burst=1000)
    with (
        bot(tmp_path_factory.mktemp("bot")) as port,
        nginx(tmp_path_factory.mktemp("nginx"), [port], page=True, console=unlimited) as front,
    ):
        yield Page(f"https://127.0.0.1:{front.https_port}", tmp_path_factory.mktemp("home"))


def test_link_logs_in_once_and_leaves_no_token_behind(page: Page) -> None:
    seen = page.in_browser("login")
    assert seen["address"] == f"{page.url}/console/"
    cookie = seen["cookie"]
    assert cookie["name"] == "__Host-clawd-page"
    assert (cookie["secure"], cookie["httpOnly"], cookie["sameSite"]) == (True, True, "Strict")
    assert seen["seen"] == ""


def test_link_on_another_site_leads_to_the_session(page: Page) -> None:
    assert page.in_browser("elsewhere") == {"user": "elsewhere"}


def test_link_of_another_user_replaces_the_session(page: Page) -> None:
    seen = page.in_browser("change")
    assert seen == {"first": "change", "second": "change 2", "address": f"{page.url}/console/"}


def test_enter_sends_and_answer_is_formatted_and_announced(page: Page) -> None:
    seen = page.in_browser("chat")
    assert seen["focused"] == "question"
    assert seen["typed"] == seen["shown"] == "table\nplease"
    assert (seen["cells"], seen["code"], seen["copies"]) == (["Copy", "8 min"], "echo a", 1)
    assert seen["announced"].startswith("The assistant has answered: ")
    assert seen["address"].startswith(f"{page.url}/console/?c=")
    assert seen["titles"] == ["table please"]


def test_answer_grows_while_it_is_made(page: Page) -> None:
    assert page.in_browser("growth")["steps"] >= 3


def test_enter_of_an_input_method_does_not_send(page: Page) -> None:
    assert page.in_browser("composition") == {"turns": 0, "kept": "nihao"}


def test_scripts_in_answers_do_not_run(page: Page) -> None:
    seen = page.in_browser("hostile")
    assert HOSTILE in seen["answer"]
    assert HOSTILE in seen["again"]
    assert (seen["hacked"], seen["inline"]) == (False, False)


def test_conversations_are_listed_renamed_and_deleted(page: Page) -> None:
    seen = page.in_browser("conversations")
    assert seen == {"renamed": ["Renamed", "first topic"], "turns": 2, "left": ["Renamed"]}


def test_reloaded_page_continues_to_show_the_answer(page: Page) -> None:
    assert page.in_browser("reload") == {"answer": ANSWERS["slow"], "questions": 1}


def test_interrupted_request_is_repeated_and_answered_once(page: Page) -> None:
    assert page.in_browser("interruption") == {"answer": "re: again", "requests": 2}


def test_page_follows_colors_and_language_of_the_browser(page: Page) -> None:
    seen = page.in_browser("appearance")
    assert seen["light"] == {
        "background": "rgb(250, 249, 246)",
        "language": "en",
        "greeting": "How can I help?",
    }
    assert seen["dark"] == {
        "background": "rgb(29, 28, 26)",
        "language": "zh-CN",
        "greeting": "有什么可以帮您？",
    }


def test_page_fits_a_narrow_window(page: Page) -> None:
    assert page.in_browser("narrow") == {"wider": False, "before": False, "opened": True, "focused": "menu"}


def test_everything_is_reached_with_the_keyboard(page: Page) -> None:
    order = page.in_browser("keyboard")["order"]
    assert order[:2] == ["skip", "new"]
    assert order[3:6] == ["log-out", "rename", "delete"]
    assert order[-1] == "question"
