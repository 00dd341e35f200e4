from __future__ import annotations

from typing import Any

import pytest

from inventory.model import Inventory
from inventory.rules.nginx import RULES

MODEL = {"default": {"engine": "openai-compatible", "endpoint": "https://models.example.com/v1"}}


def problems(nginx: dict[str, Any]) -> list[str]:
    declared = Inventory.model_validate(
        {"hosts": {"bot1": {"address": "10.0.0.1"}}, "models": MODEL, "nginx": nginx}
    )
    return [finding.problem for rule in RULES for finding in rule(declared)]


@pytest.mark.parametrize(
    ("nginx", "part"),
    [
        ({"trusted_proxies": ["10.0.0.0/8", "0.0.0.0/0"]}, "forge its address"),
        ({"trusted_proxies": ["::/0"]}, "forge its address"),
        ({"https_port": 8090}, "status page"),
        ({"http_port": 8090}, "status page"),
    ],
)
def test_invalid_nginx_settings_are_refused(nginx: dict[str, Any], part: str) -> None:
    (problem,) = problems(nginx)
    assert part in problem


@pytest.mark.parametrize(
    "nginx", [{}, {"trusted_proxies": ["10.0.0.0/8", "fd00::/8"]}, {"maintenance": True}]
)
def test_valid_nginx_settings_are_accepted(nginx: dict[str, Any]) -> None:
    assert problems(nginx) == []
