"""The rules of the section `docker`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from inventory.rules.docker import RULES
from tests.deploys.inventories import inventory

LOGIN = {"user": "bots", "password": "s3cret"}


@pytest.mark.parametrize(
    ("declared", "problem"),
    [
        ({}, None),
        ({"docker": {"enabled": False}}, None),
        ({"docker": {"enabled": False}, "runtime": {"run_with": "docker"}}, "needs Docker"),
        ({"docker": {"source": "docker"}}, "cannot be verified without its key"),
        ({"docker": {"source": "docker", "key": Path("docker.asc")}}, None),
        ({"docker": {"base_image": "python"}}, "has neither tag nor digest"),
        ({"docker": {"base_image": "registry.local:5000/python"}}, "has neither tag nor digest"),
        ({"docker": {"base_image": "python:3.11-slim"}}, None),
        ({"docker": {"base_image": f"python@sha256:{'ab' * 32}"}}, None),
        ({"docker": {"registry_authority": "ca.pem"}}, "this authority is for no registry"),
        ({"docker": {"registry_authority": "ca.pem", "registry": "r.internal/bots"}}, None),
        ({"docker": {"registry_login": LOGIN}}, "this login is for no registry"),
        ({"docker": {"registry_login": LOGIN, "registry": "r.internal/bots"}}, None),
        ({"docker": {"registry_login": LOGIN, "base_image": "team/python:3.11"}}, None),
        ({"docker": {"address_pool": "10.0.0.0/16"}}, "10.0.0.1 of host bot1 is in 10.0.0.0/16"),
        ({"docker": {"address_pool": "192.168.0.0/24"}}, "fewer than 16 networks"),
        ({"docker": {"address_pool": "8.8.0.0/14"}}, "is a public network"),
        ({"docker": {"address_pool": "100.96.0.0/14"}}, None),
        ({"docker": {"address_pool": "172.16.0.0/12"}}, None),
        *(
            ({"docker": {"address_pool": pool}}, "is not a private network")
            for pool in (
                "127.0.0.0/8",
                "127.128.0.0/16",
                "169.254.0.0/16",
                "224.0.0.0/4",
                "128.0.0.0/1",
                "0.0.0.0/8",
            )
        ),
        ({"docker": {"address_pool": "198.18.0.0/15"}}, None),
        ({"docker": {"address_pool": "240.0.0.0/12"}}, None),
        ({"docker": {"address_pool": "192.0.0.0/9"}}, "is a public network"),
        ({"docker": {"address_pool": "100.0.0.0/9"}}, "is a public network"),
        ({"docker": {"address_pool": "172.0.0.0/8"}}, "is a public network"),
    ],
)
def test_rules_of_docker_report_each_problem(declared: dict[str, Any], problem: str | None) -> None:
    found = [finding.problem for rule in RULES for finding in rule(inventory(**declared))]
    assert len(found) == (problem is not None)
    assert problem is None or problem in found[0]


@pytest.mark.parametrize(
    ("declared", "registry"),
    [
        ({"registry": "r.internal:5000/bots", "base_image": "python:3.11"}, "r.internal:5000"),
        ({"registry": "team"}, "docker.io"),
        ({"registry": "localhost", "base_image": "r.internal/python:3.11"}, "localhost"),
        ({"base_image": "r.internal/python:3.11"}, "r.internal"),
        ({"base_image": "python:3.11"}, "docker.io"),
        ({}, None),
    ],
)
def test_registry_login_is_for_one_registry(declared: dict[str, Any], registry: str | None) -> None:
    assert inventory(docker=declared).docker.logged_in_at == registry
