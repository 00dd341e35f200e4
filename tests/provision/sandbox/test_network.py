from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from provision.sandbox import claims, network
from provision.sandbox.layout import Layout


def test_rules_name_only_the_table_of_the_sandbox(layout: Layout) -> None:
    rules = network.table_rules(layout)
    tables = {
        line.split()[-1 if "{" not in line else -2] for line in rules.splitlines() if "table ip" in line
    }
    assert tables == {"clawd_sandbox_test"}
    assert "ip saddr 10.213.78.0/24 ip daddr != 10.213.78.0/24 masquerade" in rules
    assert 'iifname != "clawdt" oifname "clawdt" ct state new drop' in rules


def test_bridge_gets_the_gateway_address(layout: Layout) -> None:
    assert network.bridge_commands(layout)[0] == (
        ["ip", "address", "replace", "10.213.78.1/24", "dev", "clawdt"]
    )


def test_route_into_the_subnet_is_a_conflict(layout: Layout) -> None:
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


def test_docker_rules_accept_both_directions(layout: Layout) -> None:
    assert network.docker_rules(layout) == [
        ["DOCKER-USER", "--in-interface", "clawdt", "--jump", "ACCEPT"],
        ["DOCKER-USER", "--out-interface", "clawdt", "--jump", "ACCEPT"],
    ]


@pytest.fixture
def forwarding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that does not forward packets."""
    (tmp_path / "ip_forward").write_text("0")
    monkeypatch.setattr(network, "_FORWARDING", tmp_path / "ip_forward")
    monkeypatch.setattr(claims, "FOLDER", tmp_path / "run")
    return tmp_path / "ip_forward"


def test_last_sandbox_restores_ip_forwarding(layout: Layout, forwarding: Path, tmp_path: Path) -> None:
    other = dataclasses.replace(layout, bridge="other0")
    for box in (layout, other, layout):
        claims.claim(box, lasting=True)
        network._forward()
    assert forwarding.read_text() == "1"
    network.release(layout)
    network.release(layout)
    assert forwarding.read_text() == "1"
    network.release(other)
    assert forwarding.read_text() == "0"
    network.release(other)
    assert forwarding.read_text() == "0"
    assert not (tmp_path / "run").exists()


def test_machine_with_ip_forwarding_keeps_it(layout: Layout, forwarding: Path) -> None:
    forwarding.write_text("1")
    claims.claim(layout, lasting=True)
    network._forward()
    network.release(layout)
    assert forwarding.read_text() == "1"


def test_release_does_not_touch_the_network_of_another_sandbox(
    layout: Layout, forwarding: Path, tmp_path: Path
) -> None:
    claims.claim(layout, lasting=True)
    network._forward()
    network.release(dataclasses.replace(layout, folder=tmp_path / "clone" / ".sandbox"))
    assert forwarding.read_text() == "1"
    assert [claim.layout.folder for claim in claims.claims()] == [layout.folder]
