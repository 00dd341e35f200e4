"""Several models on a host: each has an engine of its own, and shares change without a restart."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, ClassVar

import pytest

from deploys.runtime.config import ASK_ROUTES
from provision.sandbox import DebianRelease, Layout
from tests.deployment import Deployment
from tests.hosts import on_hosts

pytestmark = on_hosts(seconds=1500)

RUNS = "systemctl show --property=InvocationID --value clawd-bot clawd-engine"
LAST_ANSWER = """
import sqlite3
database = sqlite3.connect("file:/var/lib/clawd-bot/bot.db?mode=ro", uri=True)
rows = database.execute("SELECT model, route FROM inbox WHERE model IS NOT NULL ORDER BY seq DESC LIMIT 1")
print(rows.fetchall())
"""
SERVING = "systemctl is-active clawd-bot clawd-engine clawd-engine@next"


@dataclass
class Models(Deployment):
    """One host with two models of the same weights, and a bot without a platform."""

    RELEASES: ClassVar[dict[str, DebianRelease]] = {"bot1": "bookworm"}
    PROJECT = "models"

    def inventory(self, *, version: int, share: int | None) -> None:
        first = Path(os.environ["CLAWD_TEST_MODEL"])
        second = self.folder / "next.gguf"
        if not second.exists():
            shutil.copy(first, second)
        how = "context_size: 1024, parallel: 2, temperature: 0"
        following = f"\n  next: {{engine: llama-cpp, path: {second}, {how}}}" if share is not None else ""
        shares = f"{{next: {share}}}" if share is not None else "{}"
        self.declare(
            "models",
            f"""project: {self.PROJECT}
known_hosts: {self.layout.known_hosts}
hosts: {{bot1: {{{self.login("bot1")}}}}}
models:
  default: {{engine: llama-cpp, path: {first}, {how}}}{following}
routes: {{version: {version}, shares: {shares}}}
channels: {{console: {{jwt_secret: !file {self.layout.secrets}/console-jwt-secret}}}}
bot: {{system_prompt: You are a helpful assistant., max_reply_tokens: 32}}
""",
        )

    def up(self) -> dict[str, Any]:
        document: dict[str, Any] = self.json("up", "-i", "models", "--yes", expect=0)
        return document

    def said(self, command: str) -> str:
        """Return what a command prints on the host."""
        return self.on("bot1", command).stdout.strip()

    def routes(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.said(f"python3 -c {shlex.quote(ASK_ROUTES)} 8080"))
        return found


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Models]:
    folder = tmp_path_factory.mktemp("operator")
    layout = Layout(
        folder / "sandbox", bridge="clsm", subnet=IPv4Network("10.213.131.0/24"), table="clawd_clsm"
    )
    with Models(folder, layout).fresh() as made:
        made.inventory(version=1, share=None)
        made.up()
        made.records["runs"] = made.said(RUNS)
        yield made


def test_second_model_is_loaded_while_the_first_serves(models: Models) -> None:
    models.inventory(version=2, share=0)
    document = models.up()
    assert "failed" not in {check["outcome"] for check in document["verification"]["checks"]}
    assert models.said(SERVING).split() == ["active"] * 3
    assert models.said(RUNS) == models.records["runs"], "nothing that serves was restarted"
    assert models.routes()["models"]["next"]["breaker"] == "closed"
    limit = models.said("systemctl show --property=MemoryMax --value clawd-engines.slice")
    assert limit.strip().isdigit(), limit


def test_share_changes_without_a_restart_and_the_model_answers(models: Models) -> None:
    models.inventory(version=3, share=100)
    models.up()
    assert models.said(RUNS) == models.records["runs"]
    used = models.routes()
    assert (used["version"], used["models"]["next"]["share"]) == (3, 100)
    models.json("verify", "-i", "models")
    assert models.said(f"python3 -c {shlex.quote(LAST_ANSWER)}") == "[('next', 3)]"


def test_removed_model_leaves_nothing_and_a_second_run_changes_nothing(models: Models) -> None:
    models.inventory(version=4, share=None)
    models.up()
    assert "clawd-engine@" not in models.said("ls /etc/systemd/system")
    assert models.said("ls /etc/clawd/engines /run/clawd-engines").split() == [
        "/etc/clawd/engines:",
        "/run/clawd-engines:",
    ]
    assert "next" not in models.said("ls /var/lib/clawd/models")
    assert models.said(RUNS) == models.records["runs"]
    assert models.json("plan", "-i", "models")["plan"]["changes"] == 0
