"""Checks of the firewall, read-only."""

from __future__ import annotations

from typing import Any

from deploys.firewall.deploy import CONFIG, STAMP, TABLE
from deploys.firewall.settings import FirewallSettings


def test_closed_by_default(host: Any) -> None:
    assert "policy drop" in host.check_output(f"nft list chain {TABLE} input")


def test_rules_in_force_as_applied(host: Any) -> None:
    live = host.check_output(f"nft --stateless --numeric list table {TABLE} | sha256sum | cut -c1-64")
    applied = host.file(STAMP).content_string.strip()
    assert applied == f"{host.file(CONFIG).sha256sum} {live}", (
        f"rules were changed since they were applied ({CONFIG})"
    )


def test_declared_ports_open(host: Any, settings: FirewallSettings) -> None:
    rules = host.check_output(f"nft --numeric list table {TABLE}")
    missing = [item for item in settings.openings if f"{item.protocol} dport {item.port} " not in rules]
    assert not missing, f"not open: {', '.join(f'{item.port}/{item.protocol}' for item in missing)}"


def test_loaded_at_boot(host: Any) -> None:
    assert host.service("nftables").is_enabled
