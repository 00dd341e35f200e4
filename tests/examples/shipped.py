"""The example inventories as shipped, on throwaway hosts: only what cannot be had here is another."""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ruamel.yaml import YAML

from tests.deployment import Deployment
from tests.examples.given import EXAMPLES, SECRETS
from tests.platforms import FEISHU_PORT, TELEGRAM_PORT
from tests.standins.control import Control

OWNER = 123456789
"""The person to whom the examples give access on Telegram."""
PORTS = {"telegram": TELEGRAM_PORT, "feishu": FEISHU_PORT}
ANSWER_SECONDS = 120.0
QUESTION = "What is the capital of France?"


def load(name: str) -> Any:
    """An example as ruamel.yaml keeps it: comments, tags and order stay when it is written again."""
    return YAML().load((EXAMPLES / f"{name}.yml").read_text(encoding="utf-8"))


@dataclass
class Shipped(Deployment):
    """Hosts as an example wants them."""

    NAME: ClassVar[str]
    """The example's."""
    PROJECT = "assistant"
    ENVIRONMENT = SECRETS

    def adapted(self) -> Any:
        """The example with the addresses, login, keys and platforms of here; its model is at home."""
        whole = load(self.NAME)
        whole["known_hosts"] = str(self.layout.known_hosts)
        for name, host in whole["hosts"].items():
            host.update(address=self.address(name), user="operator", ssh_key=str(self.layout.key))
        for platform in PORTS.keys() & whole["channels"].keys():
            whole["channels"][platform]["api_base"] = f"http://{self.here}:{PORTS[platform]}"
        # The model of the tests is much smaller than the one it stands for, and easily led astray.
        whole["models"]["default"]["temperature"] = 0
        at_home = self.folder / whole["models"]["default"]["path"].removeprefix("~/")
        at_home.parent.mkdir()
        at_home.symlink_to(os.environ["CLAWD_TEST_MODEL"])
        return whole

    def write(self, whole: Any) -> Path:
        """The inventory `prod` of the operator, as the example's own words advise."""
        file = self.declare("prod", "")
        YAML().dump(whole, file)
        return file

    def up(self) -> dict[str, list[str]]:
        """What an `up` changed, by host; print the time that it took."""
        begun = time.monotonic()
        document = self.json("up", "-i", "prod", "--yes", timeout=1800)
        changed: dict[str, list[str]] = {
            host["host"]: host["changed"] for host in document["result"]["hosts"]
        }
        seconds, count = time.monotonic() - begun, sum(map(len, changed.values()))
        print(f"{self.NAME}: {count} changes in {seconds:.0f} s")
        return changed

    def check(self) -> None:
        """Every host has checks, and all of all hosts pass; a plan finds nothing to change."""
        checks = self.json("verify", "-i", "prod")["verification"]["checks"]
        passed = Counter(check["host"] for check in checks if check["outcome"] == "passed")
        print(f"{self.NAME}: checks passed on {dict(passed)}")
        assert set(passed) == set(self.hosts)
        assert passed.total() == len(checks)
        assert self.json("plan", "-i", "prod")["plan"]["changes"] == 0


def ask_on_telegram(telegram: Control, chat: int) -> None:
    """Somebody asks in a chat of their own, and gets the right answer."""
    telegram.post("messages", text=QUESTION, chat={"id": chat}, **{"from": {"id": OWNER}})
    _expect_paris(telegram, chat_id=str(chat))


def ask_on_feishu(feishu: Control, user: str) -> None:
    """Somebody asks in a chat of their own, and gets the right answer."""
    asked = feishu.post("messages", text=QUESTION, user=user)["message"]["message_id"]
    _expect_paris(feishu, parent_id=asked)


def _expect_paris(platform: Control, **place: str) -> None:
    begun = time.monotonic()
    sent = platform.eventually(lambda: platform.get("sent", **place), ANSWER_SECONDS)
    print(f"answered after {time.monotonic() - begun:.1f} s")
    assert "Paris" in str(sent[0])
