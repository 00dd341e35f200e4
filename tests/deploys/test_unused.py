"""A setting that is refused as one without effect changes no component but that of its own section."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from deploys.registry import COMPONENTS
from inventory.model import Inventory
from tests.deploys.inventories import inventory
from tests.inventory.rules.test_unused import REFUSED

ALL = {"bot1": ["runtime", "nginx", "database", "monitoring", "logs"]}
OF_SECTION = {
    "firewall": {"firewall"},
    "nginx": {"nginx"},
    "hardening": {"hardening"},
    "docker": {"docker"},
    "tls": {"tls"},
    "database": {"database"},
    "logs": {"elasticsearch", "logstash", "kibana", "filebeat"},
    "monitoring": {"grafana"},
}


def read_by(changes: dict[str, Any], path: str) -> set[str]:
    """Return the components whose settings or openings on any host depend on the setting at `path`."""
    without = deepcopy(changes)
    section = without
    *above, key = path.split(".")
    for name in above:
        section = section[name]
    del section[key]
    one, other = inventory(ALL, **changes), inventory(ALL, **without)
    return {name for name, values in values_of(one).items() if values != values_of(other)[name]}


def values_of(declared: Inventory) -> dict[str, list[object]]:
    return {
        component.name: [
            (component.settings_for(declared, host), component.openings_for(declared, host))
            for host in declared.hosts
        ]
        for component in COMPONENTS
        if component.name not in ("nginx", "tls")  # these read the files of certificates
    }


@pytest.mark.parametrize(("changes", "path"), [(changes, path) for changes, path, _ in REFUSED])
def test_setting_refused_as_unused_is_read_by_no_other_component(changes: dict[str, Any], path: str) -> None:
    assert read_by(changes, path) <= OF_SECTION[path.partition(".")[0]]


def test_read_by_returns_components_that_read_a_setting() -> None:
    changes = {"firewall": {"enabled": False, "management": ["10.0.0.0/8"]}}
    assert read_by(changes, "firewall.management") == {"hardening"}
