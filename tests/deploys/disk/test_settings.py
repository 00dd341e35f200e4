"""What lies on a data disk follows from the roles of its host."""

from __future__ import annotations

from typing import Any

import pytest

from deploys.disk.settings import (
    BOT,
    ELASTICSEARCH,
    MODELS,
    POSTGRESQL,
    STATES,
    lies_on_data_disk,
    settings_for,
)
from inventory.model import Inventory
from tests.deploys.inventories import LOCAL, REMOTE


def declared(*roles: str, model: dict[str, Any] = LOCAL, **disk: Any) -> Inventory:
    hosts = {
        "one": {"address": "10.0.0.1", "roles": roles, "disk": disk},
        "two": {"address": "10.0.0.2"},
    }
    return Inventory.model_validate({"hosts": hosts, "models": {"default": model}})


@pytest.mark.parametrize(
    ("roles", "changes", "places"),
    [
        (("runtime",), {}, (MODELS, STATES, BOT)),
        (("runtime",), {"model": REMOTE}, (BOT,)),
        (("runtime", "database", "logs"), {}, (MODELS, STATES, POSTGRESQL, BOT, ELASTICSEARCH)),
        (("runtime", "logs"), {"keeps": ["logs"]}, (ELASTICSEARCH,)),
        (("nginx",), {}, ()),
    ],
)
def test_roles_decide_which_folders_are_on_the_data_disk(
    roles: tuple[str, ...], changes: dict[str, Any], places: tuple[object, ...]
) -> None:
    settings = settings_for(declared(*roles, **changes), "one")
    assert settings is not None
    assert settings.places == places


def test_host_without_data_disk_has_no_settings() -> None:
    assert settings_for(declared("runtime"), "two") is None
    assert not lies_on_data_disk(declared("runtime"), "two", "/var/lib/clawd/models")


@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("/var/lib/clawd/models/x.gguf", True),
        ("/srv/clawd/anything", True),
        ("/var/lib/clawd", False),
        ("/var/lib/clawd-bot2", False),
        ("/var/lib/postgresql", False),
    ],
)
def test_lies_on_data_disk_knows_folders_of_the_roles(path: str, there: bool) -> None:
    assert lies_on_data_disk(declared("runtime"), "one", path) is there
