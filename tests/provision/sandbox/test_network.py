from __future__ import annotations

from provision.sandbox import network
from provision.sandbox.layout import Layout


def test_only_the_sandboxs_own_table_is_named(layout: Layout) -> None:
    rules = network.table_rules(layout)
    tables = {
        line.split()[-1 if "{" not in line else -2] for line in rules.splitlines() if "table ip" in line
    }
    assert tables == {"clawd_sandbox_test"}
    assert "ip saddr 10.213.78.0/24 ip daddr != 10.213.78.0/24 masquerade" in rules
    assert 'iifname != "clawdt" oifname "clawdt" ct state new drop' in rules


def test_bridge_gets_the_machines_address(layout: Layout) -> None:
    assert network.bridge_commands(layout)[0] == (
        ["ip", "address", "replace", "10.213.78.1/24", "dev", "clawdt"]
    )


def test_a_route_into_the_subnet_is_a_conflict(layout: Layout) -> None:
    harmless = [
        {"dst": "default", "dev": "eth0"},
        {"dst": "10.0.0.0/8", "dev": "tun0"},
        {"dst": "10.213.78.0/24", "dev": "clawdt"},
        {"dst": "10.213.79.0/24", "dev": "tun1"},
        {"dst": "192.0.2.7", "dev": "eth0"},
        {"type": "unreachable", "dst": "10.213.78.9"},
    ]
    assert network.conflict(harmless, layout) is None
    assert network.conflict([*harmless, {"dst": "10.213.78.128/25", "dev": "wg0"}], layout) == "wg0"
    assert network.conflict([{"dst": "10.213.78.11", "dev": "tun3"}], layout) == "tun3"


def test_dockers_filter_lets_both_directions_through(layout: Layout) -> None:
    assert network.docker_rules(layout) == [
        ["DOCKER-USER", "--in-interface", "clawdt", "--jump", "ACCEPT"],
        ["DOCKER-USER", "--out-interface", "clawdt", "--jump", "ACCEPT"],
    ]
