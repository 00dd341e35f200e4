"""What must hold for kernel settings."""

from __future__ import annotations

import pytest

from inventory.rules.hardening import RULES
from tests.deploys.inventories import inventory


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("net.ipv4.ip_forward", "on", "`on` is not a value of `net.ipv4.ip_forward`"),
        ("vm.swappiness", "off", "`off` is not a value of `vm.swappiness`"),
        ("kernel.printk_devkmsg", "on", None),
        ("kernel.printk_devkmsg", "ratelimit", None),
        ("net.ipv4.tcp_congestion_control", "bbr", None),
    ],
)
def test_words_are_accepted_only_for_kernel_settings_that_have_them(
    key: str, value: str, problem: str | None
) -> None:
    declared = inventory(hardening={"sysctl": {key: value}})
    assert [finding.problem for rule in RULES for finding in rule(declared)] == ([problem] if problem else [])
