"""What is placed on hosts against what they have: three real shapes, from the inventory alone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from deploys.resources import Amount, HostResources
from inventory.errors import CapacityError
from inventory.model import Inventory
from provision.preflight.capacity import Capacity, capacity_of, refuse, shortages, warnings
from provision.reporting.capacity_display import lines
from tests import ggufs

GIB = 1 << 30
PASSWORD = "a-password-of-sixteen"


def planned(path: Path, hosts: dict[str, Any], **changes: Any) -> Inventory:
    declared = {
        name: {"address": f"192.0.2.{number}", **host} for number, (name, host) in enumerate(hosts.items(), 1)
    }
    model = {"engine": "llama-cpp", "path": str(path), "memory_max": "60G", **changes.pop("model", {})}
    return Inventory.model_validate({"hosts": declared, "models": {"default": model}, **changes})


def found(memory: int, gpu_memory: Amount | None = None) -> HostResources:
    return HostResources(Amount.found(memory), gpu_memory)


@pytest.fixture
def light(tmp_path: Path) -> Path:
    return ggufs.write(tmp_path / "light.gguf", ggufs.LIGHT)


@pytest.fixture
def professional(tmp_path: Path) -> Path:
    return ggufs.write(tmp_path / "professional.gguf", ggufs.PROFESSIONAL)


def test_server_of_4_gb_fits_a_small_model_and_no_light_one(light: Path, tmp_path: Path) -> None:
    small = ggufs.write(tmp_path / "s.gguf", ggufs.Model(1_540_000_000, 28, 12, 2, 1536, 8960, 151936))
    refuse(planned(small, {"bot1": {"memory": "4G", "cores": 2}}), ["bot1"])
    with pytest.raises(CapacityError) as refused:
        refuse(planned(light, {"bot1": {"memory": "4G", "cores": 2}}), ["bot1"])
    text = str(refused.value)
    assert re.search(r"bot1: too little memory: \d+ MiB needed, 4096 MiB declared", text)
    assert "model light (light tier, 7.6B): weights 4086 MiB + KV cache 896 MiB (28 layers" in text
    assert "bot: its limit (bot.memory_max 400M)" in text
    assert "headroom: 10 % of its memory" in text


def test_capacity_of_a_team_is_counted_per_host(light: Path) -> None:
    hosts = {
        "bot1": {"roles": ["runtime"], "memory": "8G"},
        "bot2": {"roles": ["runtime"], "memory": "8G"},
        "front": {"roles": ["nginx"], "memory": "1G"},
        "db": {"roles": ["database"], "memory": "2G"},
        "watch": {"roles": ["monitoring"], "memory": "2G"},
        "logs": {"roles": ["logs"], "memory": "6G"},
    }
    team = planned(light, hosts, database={"password": PASSWORD}, logs={"password": PASSWORD})
    refuse(team, hosts)
    components = {host: {item.component for item in capacity_of(team, host).placed} for host in hosts}
    assert {"base", "model", "runtime"} <= components["bot1"]
    assert {"base", "database"} <= components["db"]
    assert {"elasticsearch", "logstash", "kibana"} <= components["logs"]
    assert "model" not in components["front"] | components["db"] | components["logs"]
    assert {item.need.what for item in capacity_of(team, "bot1").placed} >= {"system", "bot"}


def test_largest_model_tier_is_placed_in_the_gpu(professional: Path) -> None:
    host = {"roles": ["runtime"], "memory": "32G", "gpu_memory": "48G", "gpu": "required"}
    inventory = planned(professional, {"gpu1": host})
    refuse(inventory, ["gpu1"])
    capacity = capacity_of(inventory, "gpu1")
    assert 42 * GIB < capacity.gpu_memory_needed < 43 * GIB
    assert capacity.memory_needed < 3 * GIB
    too_small = planned(professional, {"gpu1": {**host, "gpu_memory": "40G"}})
    (shortage,) = shortages(capacity_of(too_small, "gpu1"))
    assert "too little GPU memory: 42.1 GiB needed, 40.0 GiB declared" in shortage
    without = planned(professional, {"gpu1": {"roles": ["runtime"], "memory": "32G"}})
    (shortage,) = shortages(capacity_of(without, "gpu1"))
    assert re.search(r"gpu1: too little memory: [\d.]+ GiB needed, 32\.0 GiB declared", shortage)


@pytest.mark.parametrize(
    ("host", "model", "why"),
    [({"gpu": "none"}, {}, "the host has `gpu: none`"), ({}, {"gpu_layers": 0}, "gpu_layers is 0")],
)
def test_unused_gpu_holds_no_model(
    professional: Path, host: dict[str, str], model: dict[str, int], why: str
) -> None:
    """The engine would take 43 GiB of the host's 32."""
    card = {"roles": ["runtime"], "memory": "32G", "gpu_memory": "48G", "gpu": "required", **host}
    inventory = planned(professional, {"gpu1": card}, model=model)
    (shortage,) = shortages(capacity_of(inventory, "gpu1"))
    assert re.search(r"gpu1: too little memory: [\d.]+ GiB needed, 32\.0 GiB declared", shortage)
    assert f"nothing in the GPU: {why}" in shortage
    assert capacity_of(inventory, "gpu1").gpu_memory_needed == 0


def test_layers_outside_the_gpu_are_counted_in_host_memory(professional: Path) -> None:
    card = {"roles": ["runtime"], "memory": "32G", "gpu_memory": "24G", "gpu": "required"}
    half = capacity_of(planned(professional, {"gpu1": card}, model={"gpu_layers": 40}), "gpu1")
    assert 20 * GIB < half.gpu_memory_needed < 22 * GIB
    assert 22 * GIB < half.memory_needed < 25 * GIB
    (need,) = [item.need for item in half.placed if item.component == "model"]
    assert "in the GPU, but for 41 of 81 layers" in need.how
    assert not list(shortages(half))
    (shortage,) = shortages(capacity_of(planned(professional, {"gpu1": card}), "gpu1"))
    assert "gpu1: too little GPU memory: 42.1 GiB needed, 24.0 GiB declared" in shortage


def test_found_memory_overrides_declared_memory(light: Path) -> None:
    inventory = planned(light, {"bot1": {"memory": "64G"}})
    assert not list(shortages(capacity_of(inventory, "bot1")))
    (shortage,) = shortages(capacity_of(inventory, "bot1", found(4 * GIB)))
    assert re.search(r"bot1: too little memory: \d+ MiB needed, 4096 MiB found", shortage)


def test_shortage_of_gpu_memory_names_whether_it_was_declared_or_found(professional: Path) -> None:
    """Before its driver is installed, a host reports its memory but not that of its GPUs."""
    card = {"roles": ["runtime"], "memory": "1G", "gpu_memory": "24G", "gpu": "required"}
    inventory = planned(professional, {"gpu1": card})
    for gpu_memory in (Amount.declared("24G"), Amount.found(24 * GIB)):
        assert gpu_memory is not None
        (shortage,) = shortages(capacity_of(inventory, "gpu1", found(32 * GIB, gpu_memory)))
        assert f"42.1 GiB needed, 24.0 GiB {gpu_memory.source}:" in shortage


def test_model_is_placed_in_memory_of_host_that_was_found_without_gpu(professional: Path) -> None:
    card = {"roles": ["runtime"], "memory": "64G", "gpu_memory": "48G", "gpu": "auto"}
    inventory = planned(professional, {"gpu1": card})
    assert capacity_of(inventory, "gpu1").gpu_memory_needed > 42 * GIB
    without = capacity_of(inventory, "gpu1", found(64 * GIB))
    assert without.gpu_memory_needed == 0
    assert without.memory_needed > 42 * GIB


LOGS: dict[str, Any] = {"logs": {"password": PASSWORD * 2, "daily": "1M"}}


@pytest.mark.parametrize(("gib", "heap"), [(4, 1024), (8, 2048), (16, 4096), (32, 8192)])
def test_elasticsearch_need_follows_the_heap_for_the_memory(gib: int, heap: int, light: Path) -> None:
    logs = planned(light, {"log1": {"roles": ["logs"], "memory": f"{gib}G"}}, **LOGS)
    other = planned(light, {"log1": {"roles": ["logs"], "memory": "1G"}}, **LOGS)
    for capacity in (capacity_of(logs, "log1"), capacity_of(other, "log1", found(gib * GIB))):
        (need,) = [item.need for item in capacity.placed if item.need.what == "Elasticsearch"]
        assert need.memory == heap * 3 // 2 << 20


def test_elasticsearch_heap_on_a_shared_host_is_reported(light: Path) -> None:
    """12 GB hold the model and the smallest heap, but not the quarter that Elasticsearch would take."""
    host = {"roles": ["runtime", "logs"], "memory": "12G"}
    least = planned(light, {"one": host}, logs={**LOGS["logs"], "elasticsearch_heap": "1G"})
    assert not list(shortages(capacity_of(least, "one")))
    quarter = planned(light, {"one": host}, **LOGS)
    (by_declared,), (by_found,) = (
        list(shortages(capacity_of(quarter, "one", has))) for has in (None, found(12 * GIB))
    )
    assert "4608 MiB  Elasticsearch: heap 3072 MiB (a quarter of 12288 MiB)" in by_declared
    assert "4608 MiB  Elasticsearch: heap 3072 MiB (a quarter of 12288 MiB)" in by_found


def test_host_with_a_permanent_memory_alert_is_a_warning(light: Path) -> None:
    watcher = {"watch": {"roles": ["monitoring"], "memory": "4G"}}
    tight = {"bot1": {"roles": ["runtime"], "memory": "8G"}, **watcher}
    capacity = capacity_of(planned(light, tight), "bot1")
    assert not list(shortages(capacity))
    (warning,) = warnings(capacity)
    percent = 100 * capacity.memory_needed / (8 * GIB)
    assert 75 < percent < 90
    assert f"{percent:.1f} %: the alert MemoryHigh would fire permanently from 75 % on" in warning
    assert warning in lines_of(capacity)[-1]
    patient = {"monitoring": {"thresholds": {"memory_percent": 90}}}
    assert not list(warnings(capacity_of(planned(light, tight, **patient), "bot1")))
    assert not list(warnings(capacity_of(planned(light, {"bot1": tight["bot1"]}), "bot1")))
    roomy = {"bot1": {"roles": ["runtime"], "memory": "10G"}, **watcher}
    assert not list(warnings(capacity_of(planned(light, roomy), "bot1")))


def lines_of(capacity: Capacity) -> list[str]:
    return [line.plain for line in lines(capacity)]


def test_undeclared_memory_is_not_checked_before_connecting(light: Path) -> None:
    refuse(planned(light, {"bot1": {}}), ["bot1"])


def test_shortages_of_all_hosts_are_reported_at_once(light: Path) -> None:
    with pytest.raises(CapacityError) as refused:
        refuse(planned(light, {"a": {"memory": "4G"}, "b": {"memory": "2G"}}), ["a", "b"])
    lines = str(refused.value).splitlines()
    assert [line[0] for line in lines if line[0] != " " and not line.startswith("hint: ")] == ["a", "b"]


def test_model_fetched_by_the_host_counts_with_its_memory_max(tmp_path: Path) -> None:
    fetched = {"url": "https://models.example.com/m.gguf", "sha256": "0" * 64, "memory_max": "6G"}
    inventory = planned(tmp_path / "m.gguf", {"bot1": {"memory": "4G"}}, model=fetched)
    (shortage,) = shortages(capacity_of(inventory, "bot1"))
    assert "6144 MiB  model m: its file is not on this machine, so its limit is counted" in shortage


def test_models_are_counted_on_the_data_disk(light: Path) -> None:
    inventory = planned(light, {"bot1": {"disk": {}}})
    capacity = capacity_of(inventory, "bot1")
    assert capacity.disk_needed(on_data_disk=True) >= light.stat().st_size
    assert capacity.disk_needed(on_data_disk=False) < 2 * GIB


def test_capacity_table_shows_needs_and_totals(professional: Path) -> None:
    host = {"roles": ["runtime"], "memory": "32G", "gpu_memory": "48G", "gpu": "auto"}
    shown = [line.plain for line in lines(capacity_of(planned(professional, {"gpu1": host}), "gpu1"))]
    assert shown[0] == "gpu1"
    assert any("model professional (professional tier, 71B)" in line for line in shown)
    assert shown[-1].split() == ["32.0", "GiB", "48.0", "GiB", "available"]
