"""Hosts whose bots run in containers, or not, by the whole program."""

from __future__ import annotations

import json
import time

import jwt

from tests.e2e.world import World
from tests.hosts import until

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


class InContainers(World):
    """Hosts with everything a bot needs on each, the real model among it."""

    def declared(self, run_with: str, **more: str) -> None:
        secret = self.layout.secrets / "console-jwt-secret"
        channels = f"channels: {{console: {{jwt_secret: !file {secret}}}}}"
        runtime = f"runtime: {{run_with: {run_with}}}"
        self.inventory(replacing={"channels": channels, "runtime": runtime, **more})

    def up(self, expect: int = 0) -> dict[str, set[str]]:
        """What changed, by host; afterwards nothing is left to change and every check passes."""
        told = self.json("up", "-i", "e2e", "--yes", expect=expect)
        if expect == 0:
            assert self.json("plan", "-i", "e2e")["plan"]["changes"] == 0
            verified = self.json("verify", "-i", "e2e")["verification"]
            assert verified["failed"] == 0
        return {host["host"]: set(host["changed"]) for host in told["result"]["hosts"]}

    def say(self, host: str, command: str, *, check: bool = True) -> str:
        return self.on(host, command, check=check).stdout.strip()

    def ask(self, host: str, text: str) -> str:
        """What the bot answers on its console."""
        now = int(time.time())
        claims = {"sub": "somebody", "iat": now, "exp": now + 300}
        token = jwt.encode(claims, self.secret("console-jwt-secret"), algorithm="HS256")
        events = self.say(host, ASK.format(text=text, token=token))
        assert "event: done" in events, events
        return str(json.loads(events.strip().rpartition("data: ")[2])["text"])

    def until_ready(self, host: str) -> None:
        until(lambda: self.on(host, READY, check=False).returncode == 0, seconds=60)
