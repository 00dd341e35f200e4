"""What must hold for the section `logs`."""

from __future__ import annotations

from typing import Any

import pytest

from inventory.model import Inventory
from inventory.reading.source import KeyPath
from inventory.rules.logs import RULES
from tests.deploys.inventories import inventory

BOT = {"bot1": ["runtime", "nginx"]}
ONE = {**BOT, "log1": ["logs"]}
THREE = {**BOT, "log1": ["logs"], "log2": ["logs", "monitoring"], "log3": ["logs"]}
LOGS = {"password": "p" * 32}


def found(declared: Inventory) -> dict[KeyPath, str]:
    return {finding.at[0]: finding.problem for rule in RULES for finding in rule(declared)}


@pytest.mark.parametrize("hosts", [BOT, ONE, THREE])
def test_one_or_three_dedicated_log_hosts_are_accepted(hosts: dict[str, list[str]]) -> None:
    assert found(inventory(hosts, logs=LOGS)) == {}


@pytest.mark.parametrize(
    ("hosts", "logs", "at", "problem"),
    [
        (
            {"bot1": ["runtime", "nginx", "logs"]},
            LOGS,
            ("hosts", "bot1", "roles", 2),
            (
                "`bot1` has the roles logs and runtime, which exclude each other: Elasticsearch would "
                "evict the model's weights from the page cache"
            ),
        ),
        (
            {**ONE, "log2": ["logs"]},
            LOGS,
            ("hosts", "log2", "roles", 0),
            "2 hosts have the role logs: two hosts cannot form a majority when they lose contact",
        ),
        (
            {**THREE, "log4": ["nginx", "logs"]},
            LOGS,
            ("hosts", "log4", "roles", 1),
            (
                "4 hosts have the role logs: three keep every line twice and tolerate the loss of one; "
                "other numbers are not supported"
            ),
        ),
        (ONE, {}, ("logs",), "a host has the role logs, but `logs.password` is missing"),
        (
            ONE,
            {**LOGS, "elasticsearch_heap": "511M"},
            ("logs", "elasticsearch_heap"),
            "511M is too little memory for Elasticsearch",
        ),
        (
            ONE,
            {**LOGS, "elasticsearch_heap": "31G"},
            ("logs", "elasticsearch_heap"),
            "31G is more than Java can address with short pointers",
        ),
        (
            ONE,
            {**LOGS, "logstash_heap": "64M"},
            ("logs", "logstash_heap"),
            "64M is too little memory for Logstash",
        ),
        (
            ONE,
            {**LOGS, "kibana_heap": "64M"},
            ("logs", "kibana_heap"),
            "64M is too little memory for Kibana",
        ),
        (
            ONE,
            {**LOGS, "kibana_from": ["10.0.0.0/8", "0.0.0.0/0"]},
            ("logs", "kibana_from", 1),
            "0.0.0.0/0 is the whole internet: only one password would protect all log lines",
        ),
    ],
)
def test_invalid_log_hosts_are_refused(
    hosts: dict[str, list[str]], logs: dict[str, Any], at: KeyPath, problem: str
) -> None:
    assert found(inventory(hosts, logs=logs)) == {at: problem}


def test_kibana_from_without_firewall_is_refused() -> None:
    logs = {**LOGS, "kibana_from": ["10.0.0.0/8"]}
    assert found(inventory(ONE, logs=logs)) == {}
    assert set(found(inventory(ONE, logs=logs, firewall={"enabled": False}))) == {("logs", "kibana_from")}
