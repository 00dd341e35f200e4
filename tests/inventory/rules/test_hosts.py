"""What must hold between hosts."""

from __future__ import annotations

from typing import Any

import pytest

from inventory.model import Inventory
from inventory.rules.hosts import internal_addresses
from tests.deploys.inventories import LOCAL


def problems(*internal: str | None) -> list[str]:
    hosts: dict[str, Any] = {
        f"bot{number}": {"address": f"10.0.0.{number}", "internal_address": address}
        for number, address in enumerate(internal, 1)
    }
    declared = Inventory.model_validate({"hosts": hosts, "models": {"default": LOCAL}})
    return [finding.problem for finding in internal_addresses(declared)]


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "localhost", "LOCALHOST", "a.localhost",
     "localhost.localdomain", "169.254.1.1", "fe80::1"],
)  # fmt: skip
def test_loopback_internal_address_is_refused(address: str) -> None:
    (problem,) = problems(None, address)
    assert problem == f"{address} is a local address: other hosts cannot reach `bot2` by it"
    assert problems(address) == [], "one host alone may use it"


def test_loopback_address_needs_internal_address_when_other_hosts_connect() -> None:
    for roles, needed in (
        (["runtime", "nginx"], False),
        (["nginx"], True),
        (["runtime", "nginx", "monitoring"], True),
    ):
        hosts: dict[str, Any] = {
            "front": {"address": "localhost", "roles": roles},
            "bot": {"address": "10.0.0.2"},
        }
        declared = Inventory.model_validate({"hosts": hosts, "models": {"default": LOCAL}})
        assert len(list(internal_addresses(declared))) == needed
        hosts["front"]["internal_address"] = "10.0.0.1"
        declared = Inventory.model_validate({"hosts": hosts, "models": {"default": LOCAL}})
        assert list(internal_addresses(declared)) == []


@pytest.mark.parametrize("address", ["10.0.0.9", "fd00::1", "bot2.internal", "localhost.example.com"])
def test_internal_address_of_a_network_is_accepted(address: str) -> None:
    assert problems(None, address) == []
