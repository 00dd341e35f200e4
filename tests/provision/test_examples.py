"""The example inventories: each loads, is planned, and fits the servers that it is written for."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli import program
from deploys.registry import COMPONENTS
from inventory.errors import CapacityError
from inventory.load import LoadedInventory, load
from provision.preflight.capacity import capacity_of, shortages
from provision.selection import Selection, assign
from tests import ggufs
from tests.examples.given import EXAMPLES, SECRETS

NAMES = ("single", "team", "gpu-70b")
SMALL = ggufs.Model(1_543_714_304, 28, 12, 2, 1536, 8960, 151936)
"""The numbers of Qwen2.5-1.5B."""
MODELS = {
    "qwen2.5-1.5b-instruct-q4_k_m.gguf": SMALL,
    "qwen2.5-7b-instruct-q4_k_m.gguf": ggufs.LIGHT,
    "Llama-3.3-70B-Instruct-Q4_K_M.gguf": ggufs.PROFESSIONAL,
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
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "nvidia-cuda.asc").write_text("-----BEGIN PGP PUBLIC KEY BLOCK-----\n")
    for name, model in MODELS.items():
        ggufs.write(tmp_path / "models" / name, model)
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


def loaded(name: str) -> LoadedInventory:
    return load(EXAMPLES / f"{name}.yml")


@pytest.mark.parametrize("name", NAMES)
def test_every_example_assigns_its_components(name: str) -> None:
    assigned = assign(loaded(name).inventory, Selection())
    placed = {host: {item.component.name for item in items} - EVERYWHERE for host, items in assigned.items()}
    assert placed == COMPONENTS_OF[name]


@pytest.mark.parametrize("name", NAMES)
def test_every_example_fits_its_servers(name: str) -> None:
    inventory = loaded(name).inventory
    for host in inventory.hosts:
        capacity = capacity_of(inventory, host)
        memory = capacity.resources.memory
        assert memory is not None, f"{host} declares no memory"
        assert memory.source == "declared"
        assert 0 < capacity.memory_needed < memory.size
        assert list(shortages(capacity)) == []


def checked(file: Path) -> Result:
    return CliRunner().invoke(program, ["inventory", "check", "-i", str(file)], env={"COLUMNS": "300"})


SHOWN = {
    "single": (
        "1338 MiB  829 MiB model qwen2.5-1.5b-instruct-q4_k_m (light tier, 1.5B)",
        "4096 MiB available",
    ),
    "team": (
        "6955 MiB  4086 MiB model qwen2.5-7b-instruct-q4_k_m (light tier, 7.6B)",
        "2048 MiB data 1536 MiB PostgreSQL",
        "3072 MiB  2048 MiB Elasticsearch  heap 2048 MiB (a quarter of 8192 MiB), and half of it again",
        "16.0 GiB available",
    ),
    "gpu-70b": (
        "2048 MiB  42.1 GiB data 37.0 GiB model Llama-3.3-70B-Instruct-Q4_K_M (professional tier, 71B)",
        "80 layers × 8 heads × (128 + 128) × 2 bytes × 4096 tokens × 4 conversations",
        "64.0 GiB  48.0 GiB available",
    ),
}


@pytest.mark.parametrize("name", NAMES)
def test_inventory_check_shows_components_and_capacity_of_examples(name: str) -> None:
    shown = checked(EXAMPLES / f"{name}.yml")
    assert shown.exit_code == 0, shown.output
    for host, components in COMPONENTS_OF[name].items():
        (line,) = [line for line in shown.output.splitlines() if line.startswith(f"{host}: ")]
        assert components <= set(line.partition(": ")[2].split(", "))
    words = " ".join(shown.output.split())
    assert not [part for part in SHOWN[name] if " ".join(part.split()) not in words], shown.output
    assert shown.output.count("available") == len(COMPONENTS_OF[name])
    assert not [value for value in SECRETS.values() if value in shown.output]


@pytest.mark.parametrize(
    ("name", "larger", "smaller", "expected"),
    [
        ("single", "memory: 4G", "memory: 2G", "bot1: too little memory: 2347 MiB needed, 2048 MiB"),
        (
            "team",
            "memory: 16G\n    roles: [runtime]\n  db1",
            "memory: 7G\n    roles: [runtime]\n  db1",
            "bot2: ",
        ),
        ("team", "memory: 4G\n    roles: [database]", "memory: 2G\n    roles: [database]", "db1: "),
        ("gpu-70b", "gpu_memory: 48G", "gpu_memory: 40G", "gpu1: too little GPU memory: 42.1 GiB needed"),
    ],
)
def test_example_on_a_smaller_server_is_refused_with_the_arithmetic(
    name: str, larger: str, smaller: str, expected: str, tmp_path: Path
) -> None:
    text = (EXAMPLES / f"{name}.yml").read_text()
    assert larger in text
    (tmp_path / "prod.yml").write_text(text.replace(larger, smaller))
    shown = checked(tmp_path / "prod.yml")
    assert isinstance(shown.exception, CapacityError)
    first, *rows = str(shown.exception).splitlines()
    assert first.startswith(expected)
    assert any("system" in row for row in rows) or "GPU" in first


def test_every_component_is_in_an_example_or_needs_no_role() -> None:
    shown = {item for hosts in COMPONENTS_OF.values() for placed in hosts.values() for item in placed}
    assert {component.name for component in COMPONENTS} - shown - EVERYWHERE == {"grafana"}
