"""The inventories that come with the program load, given what they ask for."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from inventory import json_schema
from inventory.load import load
from inventory.model import Inventory
from inventory.sections.models import LocalModel
from inventory.types import Declared
from tests import ggufs
from tests.inventory.conftest import SECRETS, private

OURS = Path(json_schema.FILE).parent


def test_example_inventory_loads_with_declared_values(laptop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(OURS / "example-prod.yml", "prod.yml")
    home = laptop.parent / "home"
    for name in ("telegram-secret-token", "feishu-encrypt-key", "console-jwt-secret"):
        private(laptop / "secrets" / name, SECRETS["jwt"])
    for name in ("FALLBACK_API_KEY", "TELEGRAM_TOKEN", "FEISHU_APP_SECRET", "FEISHU_VERIFICATION_TOKEN"):
        monkeypatch.setenv(f"CLAWD_{name}", SECRETS["telegram"])
    for name in ("DATABASE", "GRAFANA", "LOGS", "LOGS_READER"):
        monkeypatch.setenv(f"CLAWD_{name}_PASSWORD", SECRETS["jwt"])
    monkeypatch.setenv("CLAWD_ALERTS_TOKEN", SECRETS["jwt"])
    (laptop / "packages").mkdir()
    (laptop / "packages" / "grafana.deb").write_bytes(b"!<arch>")
    private(home / ".ssh" / "id_ed25519", "a key")
    (home / "models").mkdir()
    ggufs.write(home / "models" / "qwen2.5-7b-instruct-q4_k_m.gguf", ggufs.TINY)

    inventory = load(Path("prod.yml")).inventory

    assert list(inventory.with_role("runtime")) == ["bot1", "bot2"]
    assert isinstance(inventory.models.default, LocalModel)
    assert inventory.models.default.path == home / "models" / "qwen2.5-7b-instruct-q4_k_m.gguf"
    assert inventory.channels.console is not None
    assert inventory.channels.console.jwt_secret.get_secret_value() == SECRETS["jwt"]


def test_example_explains_every_key() -> None:
    text = (OURS / "example-prod.yml").read_text(encoding="utf-8")
    keys = set(re.findall(r"^[\s#-]*([a-z0-9_]+):", text, re.MULTILINE))
    keys |= set(re.findall(r"`([a-z_]+)`", text)) | {"from" if "from:" in text else ""}
    fields = {
        info.alias or name for model in Declared.__subclasses__() for name, info in model.model_fields.items()
    }
    assert fields - keys == set()


def test_defaults_named_in_the_example_are_the_defaults() -> None:
    text = (OURS / "example-prod.yml").read_text(encoding="utf-8")
    example = load(OURS / "example-prod.yml", resolve_secrets=False).inventory
    assert "Default: clawd." in text
    assert Inventory.model_fields["project"].default == "clawd"
    whole = (
        example.runtime,
        example.nginx,
        example.docker,
        example.nvidia,
        example.rollout,
        example.hardening,
    )
    for section in (*whole, example.tls.model_copy(update={"names": ()})):
        assert section == type(section)()
    monitoring, logs, disk = example.monitoring, example.logs, example.hosts["bot1"].disk
    assert monitoring == type(monitoring)(alerts=monitoring.alerts, grafana=monitoring.grafana)
    assert disk == type(disk)()  # type: ignore[misc]
    given = {"password": logs.password, "reader_password": logs.reader_password}
    chosen = {"kibana_from": logs.kibana_from, "elasticsearch_heap": logs.elasticsearch_heap}
    assert logs == type(logs)(**given, **chosen)
    assert example.database == type(example.database)(password=example.database.password)  # type: ignore[union-attr, misc]
    assert (
        example.bot.model_copy(update={"system_prompt": "You are a helpful assistant."})
        == type(example.bot)()
    )
    assert example.base.journal_max == type(example.base)().journal_max
    assert example.models.default.context_size == 4096


def test_sandbox_inventory_loads_with_declared_values(laptop: Path) -> None:
    (laptop / "inventory").mkdir()
    shutil.copy(OURS / "sandbox.yml", "inventory/sandbox.yml")
    sandbox = laptop / ".sandbox"
    for name in (
        "telegram-token",
        "telegram-secret-token",
        "feishu-app-secret",
        "feishu-encrypt-key",
        "feishu-verification-token",
        "console-jwt-secret",
    ):
        private(sandbox / "secrets" / name, SECRETS["telegram" if name == "telegram-token" else "jwt"])
    private(sandbox / "id_ed25519", "a key")
    (sandbox / "known_hosts").touch()
    (sandbox / "models").mkdir()
    ggufs.write(sandbox / "models" / "smollm2-135m-q8_0.gguf", ggufs.TINY)

    loaded = load(Path("inventory/sandbox.yml"))

    assert loaded.inventory.project == "sandbox"
    assert loaded.inventory.hosts["bot1"].ssh_key == sandbox / "id_ed25519"
    assert loaded.state_folder == laptop / "inventory" / ".clawd" / "sandbox"
