"""Hosts whose bots run in containers, or not, by the whole program."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import jwt

from tests.deployment import ROOT
from tests.e2e.deployment import World
from tests.hosts import until
from tests.platforms import TELEGRAM_PORT
from tests.standins.control import Control

READY = (
    "python3 -c 'import urllib.request as u; u.urlopen(\"http://127.0.0.1:8080/readyz\", timeout=5).read()'"
)
ASK = """python3 - <<'END'
import json, urllib.request
body = json.dumps({{"text": {text!r}, "conversation": "c", "id": {text!r}}}).encode()
headers = {{"Authorization": "Bearer {token}", "Content-Type": "application/json"}}
request = urllib.request.Request("http://127.0.0.1:8080/console/v1/messages", body, headers)
print(urllib.request.urlopen(request, timeout=90).read().decode())
END"""


@contextmanager
def telegram_apart(address: str, token: str) -> Iterator[Control]:
    """Telegram's stand-in in a process of its own: here gevent is at work, there asyncio."""
    words = [sys.executable, "-m", "tests.standins.telegram", "--host", address, "--port", str(TELEGRAM_PORT)]
    words += ["--token", token, "--allow-reserved-addresses", "--pace", "0.1"]
    process = subprocess.Popen(words, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        with Control(f"http://{address}:{TELEGRAM_PORT}") as control:
            until(lambda: _answers(control))
            yield control
    finally:
        process.kill()
        process.wait()


def _answers(control: Control) -> bool:
    try:
        control.get("health")
    except httpx.TransportError:
        return False
    return True


class InContainers(World):
    """Hosts with everything a bot needs on each, the real model among it."""

    def declared(self, run_with: str, **more: str) -> None:
        secret = self.layout.secrets / "console-jwt-secret"
        channels = f"channels: {{console: {{jwt_secret: !file {secret}}}}}"
        runtime = f"runtime: {{run_with: {run_with}}}"
        self.inventory(replacing={"channels": channels, "runtime": runtime, **more})

    def up(self, expect: int = 0) -> dict[str, set[str]]:
        """What changed, by host; afterwards nothing is left to change and every check passes."""
        document = self.json("up", "-i", "e2e", "--yes", expect=expect)
        if expect == 0:
            assert self.json("plan", "-i", "e2e")["plan"]["changes"] == 0
            verified = self.json("verify", "-i", "e2e")["verification"]
            assert verified["failed"] == 0
        return {host["host"]: set(host["changed"]) for host in document["result"]["hosts"]}

    def say(self, host: str, command: str, *, check: bool = True) -> str:
        return self.on(host, command, check=check).stdout.strip()

    def ask(self, host: str, text: str) -> str:
        """What the bot answers on its console."""
        now = int(time.time())
        claims = {"sub": "somebody", "iat": now, "exp": now + 300, "jti": uuid.uuid4().hex}
        token = jwt.encode(claims, self.secret("console-jwt-secret"), algorithm="HS256")
        events = self.say(host, ASK.format(text=text, token=token))
        assert "event: done" in events, events
        return str(json.loads(events.strip().rpartition("data: ")[2])["text"])

    def until_ready(self, host: str) -> None:
        until(lambda: self.on(host, READY, check=False).returncode == 0, seconds=60)
