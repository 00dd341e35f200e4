"""Which hosts get a driver."""

from __future__ import annotations

from typing import Any

import pytest

from deploys.docker.settings import DockerSettings
from deploys.exporters.settings import ExportersSettings
from deploys.nvidia.settings import NvidiaSettings, needs_for, settings_for
from deploys.resources import HostResources
from deploys.runtime.settings import EngineGpu, engine_gpu
from inventory.model import Inventory
from inventory.rules.nvidia import RULES
from tests.deploys.inventories import LOCAL

UNKNOWN = HostResources(None, None)


def declared(gpu: str, **changes: Any) -> Inventory:
    hosts = {"one": {"address": "10.0.0.1", "gpu": gpu}}
    return Inventory.model_validate({"hosts": hosts, "models": {"default": LOCAL}, **changes})


def test_hosts_have_no_driver_by_default() -> None:
    plain = Inventory.model_validate(
        {"hosts": {"one": {"address": "10.0.0.1"}}, "models": {"default": LOCAL}}
    )
    assert settings_for(plain, "one") is None
    assert needs_for(plain, "one", UNKNOWN) == ()


@pytest.mark.parametrize(
    ("changes", "toolkit"),
    [({}, False), ({"runtime": {"run_with": "docker"}}, True), ({"docker": {"enabled": True}}, True)],
)
def test_toolkit_is_installed_only_with_docker(changes: dict[str, Any], toolkit: bool) -> None:
    settings = settings_for(declared("auto", **changes), "one")
    assert settings is not None
    assert settings.toolkit is toolkit


def test_disk_space_is_needed_only_when_a_gpu_is_required() -> None:
    assert needs_for(declared("auto"), "one", UNKNOWN) == ()
    driver, cuda = needs_for(declared("required"), "one", UNKNOWN)
    assert (driver.disk, cuda.disk) == (3 << 30, 1 << 30)
    (_, twice) = needs_for(declared("required", runtime={"run_with": "docker"}), "one", UNKNOWN)
    assert twice.disk == 2 << 30
    on_processors = {"default": {**LOCAL, "gpu_layers": 0}}
    (only,) = needs_for(declared("required", models=on_processors), "one", UNKNOWN)
    assert only == driver


@pytest.mark.parametrize(
    ("gpu", "layers", "computes"),
    [("auto", None, True), ("required", 40, True), ("required", 0, False), ("none", None, False)],
)
def test_engine_uses_the_gpu_only_when_declared(gpu: str, layers: int | None, computes: bool) -> None:
    whole = declared(gpu, models={"default": {**LOCAL, "gpu_layers": layers}}, nvidia={"cuda": "12.9"})
    found = engine_gpu(whole, "one")
    assert found == (EngineGpu(cuda="12.9", layers=layers) if computes else None)
    settings = settings_for(whole, "one")
    assert settings is None or settings.engine is computes


def test_root_setting_has_the_same_description_in_every_component() -> None:
    for settings in (NvidiaSettings, EngineGpu, DockerSettings, ExportersSettings):
        assert settings.model_fields["root"].description == NvidiaSettings.model_fields["root"].description


@pytest.mark.parametrize(
    ("gpu", "nvidia", "wrong"),
    [("none", {}, 0), ("auto", {}, 1), ("required", {}, 1), ("auto", {"key": "/keys/nvidia.pub"}, 0)],
)
def test_driver_without_repository_key_is_refused(gpu: str, nvidia: dict[str, Any], wrong: int) -> None:
    found = [finding for rule in RULES for finding in rule(declared(gpu, nvidia=nvidia))]
    assert len(found) == wrong
