"""Which hosts get a driver."""

from __future__ import annotations

from typing import Any

import pytest

from deploys.nvidia.settings import needs_for, settings_for
from inventory.model import Inventory
from inventory.rules.nvidia import RULES
from tests.deploys.inventories import LOCAL


def declared(gpu: str, **changes: Any) -> Inventory:
    hosts = {"one": {"address": "10.0.0.1", "gpu": gpu}}
    return Inventory.model_validate({"hosts": hosts, "models": {"default": LOCAL}, **changes})


def test_none_by_default() -> None:
    plain = Inventory.model_validate(
        {"hosts": {"one": {"address": "10.0.0.1"}}, "models": {"default": LOCAL}}
    )
    assert settings_for(plain, "one") is None
    assert needs_for(plain, "one") == ()


@pytest.mark.parametrize(
    ("changes", "toolkit"),
    [({}, False), ({"runtime": {"run_with": "docker"}}, True), ({"docker": {"enabled": True}}, True)],
)
def test_toolkit_where_docker_is(changes: dict[str, Any], toolkit: bool) -> None:
    settings = settings_for(declared("auto", **changes), "one")
    assert settings is not None
    assert settings.toolkit is toolkit


def test_space_is_asked_where_there_must_be_a_gpu() -> None:
    assert needs_for(declared("auto"), "one") == ()
    (need,) = needs_for(declared("required"), "one")
    assert need.disk == 3 << 30


@pytest.mark.parametrize(
    ("gpu", "nvidia", "wrong"),
    [("none", {}, 0), ("auto", {}, 1), ("required", {}, 1), ("auto", {"key": "/keys/nvidia.pub"}, 0)],
)
def test_a_driver_needs_a_key(gpu: str, nvidia: dict[str, Any], wrong: int) -> None:
    found = [finding for rule in RULES for finding in rule(declared(gpu, nvidia=nvidia))]
    assert len(found) == wrong
