"""The example inventories: each loads, is planned, and fits the servers that it is written for."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from cli import program
from deploys.registry import COMPONENTS
from inventory.load import Loaded, load
from inventory.model import Inventory
from inventory.values import size_in_bytes
from provision.assign import Selection, assign
from provision.capacity import capacity_of, shortages
from tests import ggufs

EXAMPLES = Path(__file__).resolve().parents[2] / "inventory" / "examples"
NAMES = ("single", "team", "gpu-70b")
SMALL = ggufs.Model(1_543_714_304, 28, 12, 2, 1536, 8960, 151936)
"""The numbers of Qwen2.5-1.5B."""
MODELS = {
    "qwen2.5-1.5b-instruct-q4_k_m.gguf": SMALL,
    "qwen2.5-7b-instruct-q4_k_m.gguf": ggufs.LIGHT,
    "Llama-3.3-70B-Instruct-Q4_K_M.gguf": ggufs.PROFESSIONAL,
}
SECRETS = {
    "TELEGRAM_TOKEN": "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw",
    "TELEGRAM_SECRET_TOKEN": "canary-secret-token",
    "FEISHU_APP_SECRET": "canary-app-secret",
    "FEISHU_ENCRYPT_KEY": "canary-encrypt-key",
    "FEISHU_VERIFICATION_TOKEN": "canary-verification",
    "CONSOLE_JWT_SECRET": "canary-0123456789-0123456789-0123456789",
    "DATABASE_PASSWORD": "canary-of-the-database",
    "ALERTS_TOKEN": "canary-of-the-alerts",
    "LOGS_PASSWORD": "canary-0123456789-0123456789-of-the-logs",
    "FALLBACK_API_KEY": "canary-of-the-fallback",
}
COMPONENTS_OF = {
    "single": {"bot1": {"base", "tls", "model", "runtime", "nginx"}},
    "team": {
        "web1": {"base", "tls", "nginx", "exporters", "filebeat"},
        "bot1": {"base", "model", "runtime", "exporters", "filebeat"},
        "bot2": {"base", "model", "runtime", "exporters", "filebeat"},
        "db1": {"base", "disk", "database", "exporters", "filebeat"},
        "mon1": {"base", "exporters", "prometheus", "alertmanager", "filebeat"},
        "log1": {"base", "disk", "exporters", "elasticsearch", "logstash", "kibana", "filebeat"},
    },
    "gpu-70b": {"gpu1": {"base", "disk", "nvidia", "tls", "model", "runtime", "nginx"}},
}
EVERYWHERE = {"hardening", "firewall", "docker"}
"""Whether these are there depends on no role."""


@pytest.fixture(autouse=True)
def laptop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home with the models that the examples name, and their secrets in the environment."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "models").mkdir()
    for name, model in MODELS.items():
        ggufs.write(tmp_path / "models" / name, model)
    for name, value in SECRETS.items():
        monkeypatch.setenv(f"CLAWD_{name}", value)


def loaded(name: str) -> Loaded:
    return load(EXAMPLES / f"{name}.yml")


@pytest.mark.parametrize("name", NAMES)
def test_each_is_planned(name: str) -> None:
    assigned = assign(loaded(name).inventory, Selection())
    placed = {host: {item.component.name for item in items} - EVERYWHERE for host, items in assigned.items()}
    assert placed == COMPONENTS_OF[name]


@pytest.mark.parametrize("name", NAMES)
def test_each_fits_the_servers_it_is_written_for(name: str) -> None:
    inventory = loaded(name).inventory
    for host in inventory.hosts:
        capacity = capacity_of(inventory, host)
        assert capacity.declared
        assert capacity.memory is not None, f"{host} declares no memory"
        assert 0 < capacity.memory_needed < capacity.memory
        assert list(shortages(capacity)) == []


@pytest.mark.parametrize("name", NAMES)
def test_check_shows_what_goes_where_and_how_much_that_takes(name: str) -> None:
    shown = CliRunner().invoke(program, ["inventory", "check", "-i", str(EXAMPLES / f"{name}.yml")])
    assert shown.exit_code == 0, shown.output
    for host, components in COMPONENTS_OF[name].items():
        lines = [line for line in shown.output.splitlines() if line.startswith(f"{host}:")]
        assert lines, shown.output
        assert all(component in lines[0] for component in components)
    assert not [value for value in SECRETS.values() if value in shown.output]


@pytest.mark.parametrize(
    ("name", "host", "changes", "told"),
    [
        ("single", "bot1", {"memory": "2G"}, "model qwen2.5-1.5b-instruct-q4_k_m"),
        ("team", "bot2", {"memory": "7G"}, "model qwen2.5-7b-instruct-q4_k_m"),
        ("team", "db1", {"memory": "2G"}, "PostgreSQL"),
        ("gpu-70b", "gpu1", {"gpu_memory": "40G"}, "model Llama-3.3-70B-Instruct-Q4_K_M"),
    ],
)
def test_a_smaller_server_is_refused_with_the_arithmetic(
    name: str, host: str, changes: dict[str, str], told: str
) -> None:
    (shortage,) = shortages(capacity_of(smaller(loaded(name).inventory, host, changes), host))
    assert shortage.startswith(f"{host}: ")
    assert told in shortage


def smaller(inventory: Inventory, host: str, changes: dict[str, str]) -> Inventory:
    assert all(size_in_bytes(value) > 0 for value in changes.values())
    hosts = {**inventory.hosts, host: inventory.hosts[host].model_copy(update=changes)}
    return inventory.model_copy(update={"hosts": hosts})


def test_every_component_is_in_an_example_or_needs_no_role() -> None:
    shown = {item for hosts in COMPONENTS_OF.values() for placed in hosts.values() for item in placed}
    assert {component.name for component in COMPONENTS} - shown - EVERYWHERE == {"grafana"}
