"""Ports that two of a host's programs would want, found before any host is reached."""

from __future__ import annotations

from typing import Any

import pytest

from deploys.ports import RULES as OF_COMPONENTS
from deploys.ports import guarded
from deploys.registry import COMPONENTS
from inventory.model import Inventory
from inventory.rules.hosts import RULES as OF_HOSTS
from tests.deploys.inventories import inventory

ALL = ["runtime", "nginx", "database", "monitoring"]
LOGS = {"bot1": ["runtime"], "log1": ["nginx", "logs"]}
WATCHED = {"bot1": ["runtime", "nginx"], "watch": ["monitoring"]}
DATABASE = {"password": "0123456789abcdef"}
GRAFANA = {"admin_password": "long-enough-1", "repository": "https://apt.example.com", "key": "/grafana.key"}


def problems(declared: Inventory) -> dict[str, str]:
    return {
        ".".join(map(str, finding.at[0])): finding.problem
        for rule in (*OF_HOSTS, *OF_COMPONENTS)
        for finding in rule(declared)
        if "used twice" in finding.problem
    }


@pytest.mark.parametrize(
    ("hosts", "changes", "at", "by"),
    [
        (LOGS, {"nginx": {"https_port": 9200}}, "nginx.https_port", "elasticsearch"),
        (LOGS, {"nginx": {"https_port": 9300}}, "nginx.https_port", "elasticsearch"),
        (LOGS, {"nginx": {"http_port": 5044}}, "nginx.http_port", "logstash"),
        (LOGS, {"nginx": {"http_port": 9600}}, "nginx.http_port", "logstash"),
        (LOGS, {"base": {"ssh_port": 5601}}, "base.ssh_port", "kibana"),
        (WATCHED, {"bot": {"port": 9100}}, "bot.port", "exporters"),
        (WATCHED, {"nginx": {"https_port": 9113}}, "nginx.https_port", "exporters"),
        (WATCHED, {"base": {"ssh_port": 9093}}, "base.ssh_port", "alertmanager"),
        (
            WATCHED,
            {"monitoring": {"grafana": {**GRAFANA, "port": 9090}}},
            "monitoring.grafana.port",
            "prometheus",
        ),
        ({"all": ALL}, {"database": DATABASE, "bot": {"port": 5432}}, "bot.port", "database"),
        ({"all": ALL}, {"bot": {"port": 8090}}, "bot.port", "nginx"),
        (
            {"all": ALL},
            {"monitoring": {"grafana": {**GRAFANA, "port": 8080}}},
            "monitoring.grafana.port",
            "`bot.port`",
        ),
    ],
)
def test_port_used_twice_on_a_host_is_refused(
    hosts: dict[str, list[str]], changes: dict[str, Any], at: str, by: str
) -> None:
    found = problems(inventory(hosts, **changes))
    assert list(found) == [at]
    assert found[at].endswith(f"by `{at}` and by {by}")


@pytest.mark.parametrize(
    "changes",
    [
        {"bot": {"port": 9200}},
        {"bot": {"port": 5432}},
        {"nginx": {"https_port": 9090}},
        {"firewall": {"open": [{"port": 9200, "from": ["10.9.0.0/16"]}]}},
    ],
)
def test_port_used_on_another_host_is_accepted(changes: dict[str, Any]) -> None:
    apart = {"bot1": ["runtime"], "web": ["nginx"], "log1": ["logs"], "watch": ["monitoring"]}
    assert problems(inventory(apart, **changes)) == {}


def test_port_problem_lists_hosts_in_file_order() -> None:
    hosts = {"web2": ["runtime", "nginx"], "web1": ["runtime", "nginx"]}
    both = {"database": {**DATABASE, "url": "postgresql://clawd@db.example.com/clawd"}}
    found = problems(inventory(hosts, **both, bot={"port": 443}))
    assert found["bot.port"].startswith("port 443 is used twice on web2, web1:")
    found = problems(inventory(hosts, **both, bot={"port": 8090}))
    assert found["bot.port"].startswith("port 8090 is used twice on web2, web1:")


@pytest.mark.parametrize("roles", [ALL, ["nginx", "database", "monitoring", "logs"]])
def test_components_have_different_default_ports(roles: list[str]) -> None:
    hosts = {"all": roles, "bot1": ["runtime"]}
    whole = inventory(hosts, database=DATABASE, monitoring={"grafana": GRAFANA})
    wanted = [port for component in COMPONENTS for port in component.ports_for(whole, "all")]
    assert len(wanted) >= 10
    assert len(wanted) == len(set(wanted))


@pytest.mark.parametrize(
    ("hosts", "changes", "expected"),
    [
        ({"bot1": ["runtime", "nginx"]}, {}, ()),
        ({"bot1": ALL}, {"database": DATABASE}, ()),
        ({"bot1": ["runtime"], "web1": ["nginx"]}, {}, ("8444 of bot1 (bot, from nginx)",)),
        (WATCHED, {}, ("8444 of bot1 (bot, from monitoring)", "9100 of bot1 (metrics of the host)")),
        (
            {"bot1": ["runtime", "nginx"], "db1": ["database"]},
            {"database": DATABASE},
            ("5432 of db1 (postgresql, from bots)",),
        ),
        (
            {"bot1": ["runtime", "nginx", "monitoring"]},
            {"monitoring": {"grafana": {**GRAFANA, "open_to": ["10.0.0.0/8"]}}},
            ("3000 of bot1 (grafana)",),
        ),
    ],
)
def test_open_ports_that_need_the_firewall_are_refused_without_it(
    hosts: dict[str, list[str]], changes: dict[str, Any], expected: tuple[str, ...]
) -> None:
    assert list(guarded(inventory(hosts, **changes))) == []
    found = list(guarded(inventory(hosts, firewall={"enabled": False}, **changes)))
    assert len(found) == (1 if expected else 0)
    for finding in found:
        assert finding.at == (("firewall", "enabled"),)
        assert all(port in finding.problem for port in expected), finding.problem
