"""What must hold for data disks."""

from __future__ import annotations

from typing import Any

import pytest

from inventory.model import Inventory
from inventory.reading.source import KeyPath
from inventory.rules.disk import RULES
from tests.deploys.inventories import LOCAL


def found(**disk: Any) -> dict[KeyPath, str]:
    host = {"address": "10.0.0.1", "disk": disk}
    declared = Inventory.model_validate({"hosts": {"bot1": host}, "models": {"default": LOCAL}})
    return {finding.at[0]: finding.problem for rule in RULES for finding in rule(declared)}


@pytest.mark.parametrize(
    "disk",
    [
        {},
        {"device": "/dev/vdb", "filesystem": "xfs", "mount": "/data"},
        {"device": "/dev/disk/by-id/nvme-Samsung_SSD_980_S64", "keeps": []},
        {"mount": "/srv/clawd-data", "keeps": ["logs", "models"]},
        {"mount": "/var/clawd"},
    ],
)
def test_valid_disk_settings_are_accepted(disk: dict[str, Any]) -> None:
    assert found(**disk) == {}


@pytest.mark.parametrize(
    ("disk", "key", "problem"),
    [
        ({"keeps": ["models", "logs", "models"]}, "keeps", "listed twice"),
    ],
)
def test_invalid_disk_settings_are_refused_with_their_place(
    disk: dict[str, Any], key: str, problem: str
) -> None:
    ((at, said),) = found(**disk).items()
    assert at[:4] == ("hosts", "bot1", "disk", key)
    assert problem in said
