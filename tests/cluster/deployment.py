"""A cluster to test against: a load balancer, two bots that share a database, stand-ins, a scripted model."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, ClassVar, Self

from provision.sandbox import DebianRelease, Layout
from tests.deployment import Deployment
from tests.platforms import MODEL_PORT
from tests.standins.control import Control

ROLES = {"front": "nginx", "app1": "runtime", "app2": "runtime", "data": "database"}
PAUSE = 0.05
"""Seconds between two messages on each platform: what two cores carry, hosts and stand-ins together."""


def layout_for_cluster(folder: Path) -> Layout:
    """A sandbox of its own."""
    return Layout(folder, bridge="clawdc", subnet=IPv4Network("10.213.83.0/24"), table="clawd_cluster")


@dataclass
class Cluster(Deployment):
    """Four hosts, each with one role, and the project folder of a made-up operator."""

    RELEASES: ClassVar[dict[str, DebianRelease]] = {
        "front": "bookworm",
        "app1": "trixie",
        "app2": "bookworm",
        "data": "trixie",
    }
    PROJECT = "cluster"

    def inventory(self, *, internal_port: int = 8444, roles: Mapping[str, str] = ROLES) -> Path:
        """Writes the inventory."""
        declared = "".join(f"  {host}: {{{self.login(host)}, roles: [{of}]}}\n" for host, of in roles.items())
        database = f"database:\n  password: !file {self.layout.secrets}/console-jwt-secret\n"
        return self.declare(
            "e2e",
            f"""project: {self.PROJECT}
known_hosts: {self.layout.known_hosts}
hosts:
{declared}
{database if "database" in roles.values() else ""}
models:
  default: {{engine: openai-compatible, endpoint: "http://{self.here}:{MODEL_PORT}/v1"}}
{self.channels}
bot:
  rate_limit_per_minute: 100000
  rate_limit_reason: people of the test write without pause
  internal_port: {internal_port}
nginx:
  requests_per_second: 2000
""",
        )


class People:
    """People who write on all platforms without pause, each message numbered, until they are stopped."""

    CHATS = 40

    def __init__(
        self, telegram: Control, feishu: Control | None, *, name: str = "all", pause: float = PAUSE
    ) -> None:
        self._name, self._pause = name, pause
        self.asked: list[str] = []
        self._platforms = {"telegram": telegram, **({"feishu": feishu} if feishu else {})}
        self._enough = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(name,)) for name in self._platforms]
        self._failure: Exception | None = None
        self._begun = time.time()
        for chat in range(1, self.CHATS + 1):
            telegram.post("chats", id=chat)
        wide = [1_000_000, 1.0]
        telegram.post("limits", chat=wide, all=wide)
        if feishu:
            feishu.post("limits", receiver=wide, second=wide, minute=wide)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        for thread in self._threads:
            thread.join()
        if self._failure:
            raise self._failure

    def wait_for(self, count: int, seconds: float) -> None:
        """Until that many messages have been written."""
        deadline = time.monotonic() + seconds
        while len(self.asked) < count:
            assert not self._failure, self._failure
            assert time.monotonic() < deadline, f"only {len(self.asked)} of {count} messages were written"
            time.sleep(0.2)

    def _write(self, platform: str) -> None:
        control = self._platforms[platform]
        try:
            for number in self._numbers():
                text = f"{self._name}-{platform}-{number}"
                chat = number % self.CHATS + 1
                if platform == "telegram":
                    control.post("messages", text=text, chat={"id": chat})
                else:
                    control.post("messages", text=text, user=f"ou_{chat}")
                self.asked.append(text)
        except Exception as error:
            self._failure = error

    def _numbers(self) -> Iterator[int]:
        number = 0
        while not self._enough.is_set():
            yield number
            number += 1
            time.sleep(self._pause)

    def answers(self) -> Counter[str]:
        """How often each message of these people has been answered."""
        texts = [message["text"] for message in self._platforms["telegram"].get("sent")]
        if "feishu" in self._platforms:
            texts += [text_of(message) for message in self._platforms["feishu"].get("sent")]
        answered = (text.removeprefix("re: ") for text in texts)
        return Counter(text for text in answered if text.startswith(f"{self._name}-"))

    def failed_deliveries(self) -> Counter[str]:
        """What the platforms could not deliver at once: how often which error, in which second."""
        return Counter(
            f"{platform} {time.strftime('%H:%M:%S', time.localtime(delivery['at']))}: {delivery['error']}"
            for platform, control in self._platforms.items()
            for delivery in control.get("deliveries")
            if delivery["error"] and delivery["at"] >= self._begun
        )

    def deliveries(self) -> int:
        """How many requests the platforms made."""
        return sum(len(control.get("deliveries")) for control in self._platforms.values())


def text_of(message: dict[str, Any]) -> str:
    """The text of a message sent on Feishu."""
    text: str = json.loads(message["body"]["content"])["text"]
    return text
