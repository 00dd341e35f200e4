from __future__ import annotations

from typing import Any

import pytest

from inventory.model import Inventory
from inventory.rules import services, tls

MODEL = {"default": {"engine": "openai-compatible", "endpoint": "https://models.example.com/v1"}}
TELEGRAM = {"telegram": {"token": "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw", "secret_token": "s"}}
EMAIL = {"email": "a@example.com"}
APART = {
    "web1": {"address": "web1.example.com", "roles": ["nginx"]},
    "bot1": {"address": "10.0.0.2", "roles": ["runtime"]},
}
OWN = "https://acme.internal/directory"
NAMES = ["bot.example.com"]


def inventory(declared: dict[str, Any], hosts: dict[str, Any] | None = None) -> Inventory:
    return Inventory.model_validate(
        {
            "hosts": hosts or {"bot1": {"address": "10.0.0.1"}},
            "models": MODEL,
            "channels": TELEGRAM,
            "tls": declared,
        }
    )


def problems(declared: Inventory) -> list[str]:
    return [finding.problem for rule in tls.RULES for finding in rule(declared)]


@pytest.mark.parametrize(
    ("declared", "part"),
    [
        ({"mode": "acme", "names": NAMES}, "lacks `email`"),
        ({"mode": "acme", "acme": EMAIL}, "only the address 10.0.0.1"),
        ({"mode": "acme", "names": [*NAMES, "10.0.0.1"], "acme": EMAIL}, "10.0.0.1 is an IP address"),
        ({"mode": "acme", "names": ["*.example.com"], "acme": EMAIL}, "cannot be validated by http-01"),
        ({"mode": "acme", "names": NAMES, "acme": {**EMAIL, "challenge": "dns-01"}}, "lacks `hook`"),
        (
            {
                "mode": "acme",
                "names": NAMES,
                "acme": {**EMAIL, "challenge": "dns-01", "dns": {"provider": "alidns", "hook": "/x"}},
            },
            "uses no hook",
        ),
        ({"mode": "provided"}, "lacks `provided`"),
        *(
            ({"mode": "acme", "names": [name], "acme": EMAIL}, part)
            for name, part in (
                ("localhost", "is a local name"),
                ("bot.localhost", "is a local name"),
                ("bot", "is not a public name"),
                ("bot.internal", "is not a public name"),
                ("bot.home.arpa", "is not a public name"),
                ("BOT.TEST", "is not a public name"),
            )
        ),
        ({"mode": "acme", "names": ["localhost"], "acme": {**EMAIL, "server": OWN}}, "is a local name"),
    ],
)
def test_invalid_tls_settings_are_refused(declared: dict[str, Any], part: str) -> None:
    (problem,) = problems(inventory(declared))
    assert part in problem


def test_acme_over_http_is_refused_for_a_name_of_several_fronts() -> None:
    hosts = {name: {"address": f"{name}.example.com"} for name in ("web1", "web2")}
    assert "share names" in problems(inventory({"mode": "acme", "names": NAMES, "acme": EMAIL}, hosts))[0]
    assert problems(inventory({"mode": "acme", "acme": EMAIL}, hosts)) == []


@pytest.mark.parametrize(
    "declared",
    [
        {},
        {"mode": "self-signed"},
        {"mode": "acme", "names": NAMES, "acme": EMAIL},
        {"mode": "acme", "names": ["bot.internal"], "acme": {**EMAIL, "server": OWN}},
        {"mode": "own-ca", "names": ["bot", "localhost"]},
        {
            "mode": "acme",
            "names": ["*.example.com"],
            "acme": {**EMAIL, "challenge": "dns-01", "dns": {"hook": "/hook"}},
        },
        {"mode": "provided", "provided": {"certificate": "x", "key": "y"}},
    ],
)
def test_valid_tls_settings_are_accepted(declared: dict[str, Any]) -> None:
    assert problems(inventory(declared)) == []


@pytest.mark.parametrize(("mode", "holds"), [("own-ca", True), ("acme", True), ("self-signed", False)])
def test_webhook_with_self_signed_certificate_needs_bot_and_nginx_on_one_host(mode: str, holds: bool) -> None:
    declared = inventory({"mode": mode, "acme": EMAIL}, APART)
    found = [finding.problem for finding in services.channels(declared)]
    assert found == [] if holds else "no host has both" in found[0]
