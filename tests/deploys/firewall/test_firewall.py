"""The ruleset, and when the firewall refuses or repairs."""

from __future__ import annotations

import hashlib
import subprocess
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from deploys.component import Opening
from deploys.firewall import deploy
from deploys.firewall.deploy import AddressesFact, TableFact, TableState, apply, live, remove
from deploys.firewall.rules import accepting, admits, counts, names_in
from deploys.firewall.settings import FirewallSettings, settings_for
from deploys.ops.debian.packages import BroughtFact, WantedFact
from deploys.ops.facts import Connection, ConnectionFact, PackagesFact, PathFact, PathState
from deploys.ops.paths.files import rendered
from deploys.ops.services import stamp_path
from inventory.errors import HostError
from tests.deploys.golden import assert_golden
from tests.deploys.harness import Machine, Run
from tests.deploys.inventories import inventory

GOLDEN = Path(__file__).parent / "golden"
FULL: dict[str, Any] = {
    "ssh_port": 22,
    "management": ["10.1.0.0/16", "10.1.2.0/24", "fd00::/8", "192.0.2.7"],
    "openings": [
        {"port": 80, "purpose": "http"},
        {"port": 443, "purpose": "https", "connections": 128, "unlimited": ["192.0.2.0/24"]},
        {"port": 8080, "sources": ["10.0.0.1", "web.internal"], "purpose": "bot, from nginx"},
        {"port": 51820, "protocol": "udp", "sources": ["2001:db8::/32"]},
    ],
}


def prepared(
    settings: dict[str, Any], *, client: str = "10.1.2.3", port: int = 22, **names: tuple[str, ...]
) -> Run:
    facts: dict[Any, Any] = {
        ConnectionFact: Connection(client, port),
        PackagesFact: frozenset({"nftables"}),
        WantedFact: frozenset({"nftables"}),
        PathFact: PathState(),
        TableFact: TableState(),
        AddressesFact: names.get("names", {}),
    }
    return Machine({"firewall": settings}, facts=facts).run(apply, execute=False)


def ruleset(settings: dict[str, Any], ssh_ports: set[int]) -> str:
    declared = FirewallSettings.model_validate(settings)
    resolved = {"web.internal": ("10.0.0.9", "fd00::9")}
    values = {"rules": accepting(declared, ssh_ports, resolved), "counts": counts(declared)}
    return rendered("firewall/nftables.conf", values)


@pytest.mark.parametrize(("name", "settings"), [("full.conf", FULL), ("open.conf", {})])
def test_ruleset_equals_golden_file(name: str, settings: dict[str, Any]) -> None:
    assert_golden(GOLDEN / name, ruleset(settings, {22, 2222}))


@pytest.mark.parametrize("settings", [FULL, {}])
def test_nft_accepts_the_ruleset(settings: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "rules"
    path.write_text(ruleset(settings, {22}))
    checked = subprocess.run(["nft", "--check", "--file", path], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


def test_host_names_are_resolved_and_unknown_ones_refused() -> None:
    assert names_in(FirewallSettings.model_validate(FULL)) == ("web.internal",)
    with pytest.raises(HostError, match=r"web\.internal cannot be resolved"):
        prepared(FULL)
    assert AddressesFact().process(["a 10.0.0.2", "a 10.0.0.1", "a 10.0.0.1", "b ::1"]) == {
        "a": ("10.0.0.1", "10.0.0.2"),
        "b": ("::1",),
    }


@pytest.mark.parametrize(("settings", "ports"), [({"ssh_port": 22}, "22, 2222"), ({}, "2222")])
def test_only_ssh_ports_in_use_or_declared_are_open_for_ssh(settings: dict[str, Any], ports: str) -> None:
    run = prepared(settings, port=2222)
    (change,) = [change for change in run.changes if change.path == "/etc/nftables.conf"]
    ours = [line for line in change.diff if "ssh" in line]
    assert ours == [f'+\t\ttcp dport {{ {ports} }} accept comment "ssh"']


def test_management_without_the_client_in_use_is_refused() -> None:
    with pytest.raises(HostError, match=r"198\.51\.100\.1, which is in no network"):
        prepared({"management": ["10.0.0.0/8"]}, client="198.51.100.1")


@pytest.mark.parametrize(
    ("networks", "client", "expected"),
    [
        ([], "203.0.113.1", True),
        (["10.0.0.0/8"], "10.9.9.9", True),
        (["10.0.0.0/8"], "11.0.0.1", False),
        (["10.0.0.0/8"], "::ffff:10.1.1.1", True),
        (["10.0.0.0/8"], "fe80::1%eth0", False),
        (["fe80::/10"], "fe80::1%eth0", True),
    ],
)
def test_admits_compares_client_with_networks(networks: list[str], client: str, expected: bool) -> None:
    assert admits(tuple(ip_network(network) for network in networks), client) is expected


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (TableState(), "load the rules"),
        (TableState("live", "", True), "load the new rules"),
        (TableState("live", "other live", True), "load the new rules"),
        (
            TableState("by-hand", "{digest} live", True),
            "load the rules again: the live ones were changed by hand",
        ),
        (TableState("live", "{digest} live", False), "load at boot"),
        (TableState("live", "{digest} live", True), None),
    ],
)
def test_changed_live_rules_are_loaded_again(state: TableState, expected: str | None) -> None:
    digest = hashlib.sha256(b"rules").hexdigest()
    present = TableState(state.digest, state.stamp.format(digest=digest), state.enabled)
    run = Machine(facts={TableFact: present}).run(lambda: live("rules"), execute=False)
    assert [change.diff for change in run.changes] == ([(expected,)] if expected else [])


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (TableState(), set()),
        (TableState("live"), {"nftables inet clawd"}),
        (TableState(written=True), {"/etc/nftables.conf"}),
    ],
)
def test_removal_deletes_only_rules_and_files_of_this_program(state: TableState, expected: set[str]) -> None:
    there = PathState("file", "0755", "root", "root", "0" * 64, b"old\n")
    facts = {TableFact: state, PathFact: there, BroughtFact: None}
    run = Machine(facts=facts).run(remove, execute=False)
    # That it was masked at first, which is noted there, is undone as well.
    notes = {f"/var/lib/clawd/state/firewall.{name}" for name in ("stamp", "enabled")}
    notes |= {stamp_path("nftables.service")}
    assert {change.path for change in run.changes} == expected | notes


def test_removal_restores_and_loads_the_original_configuration() -> None:
    there = PathState("file", "0755", "root", "root", "0" * 64, b"old\n", original="kept")
    facts = {TableFact: TableState("live", written=True), PathFact: there, BroughtFact: None}
    run = Machine(facts=facts).run(remove, execute=False)
    assert [(change.path, change.diff) for change in run.changes][:3] == [
        ("/etc/nftables.conf", ("original restored",)),
        ("nftables inet clawd", ("removed",)),
        ("/etc/nftables.conf", ("in force as before, where it was loaded at boot",)),
    ]


def test_removal_of_nothing_changes_nothing() -> None:
    facts = {TableFact: TableState(), PathFact: PathState(), BroughtFact: None}
    assert not Machine(facts=facts).run(remove, execute=False).predicted


@pytest.mark.parametrize(
    ("content", "written"),
    [
        (None, False),
        ("#!/usr/sbin/nft -f\nflush ruleset\ntable inet filter {\n}\n", False),
        (ruleset({}, {22}), True),
    ],
)
def test_configuration_written_by_this_program_is_recognised(
    content: str | None, written: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, stamp = tmp_path / "nftables.conf", tmp_path / "stamp"
    monkeypatch.setattr(deploy, "CONFIG", str(config))
    monkeypatch.setattr(deploy, "STAMP", str(stamp))
    stamp.write_text("a b\n")
    if content is not None:
        config.write_text(content)
    output = subprocess.run(["sh", "-c", TableFact().command()], capture_output=True, text=True).stdout
    state = TableFact().process(output.splitlines())
    assert (state.stamp, state.written) == ("a b", written)


def test_settings_open_ports_of_the_roles_and_declared_ones() -> None:
    one = settings_for(inventory(), "bot1")
    assert one is not None
    assert [(item.port, item.sources) for item in one.openings] == [(80, ()), (443, ())]
    apart = inventory(
        {"bot1": ["runtime"], "web1": ["nginx"]}, firewall={"open": [{"port": 9100, "from": ["10.5.0.0/16"]}]}
    )
    bot, web = settings_for(apart, "bot1"), settings_for(apart, "web1")
    assert bot is not None
    assert web is not None
    declared = Opening(port=9100, sources=("10.5.0.0/16",))
    assert bot.openings == (Opening(port=8444, sources=("10.0.0.2",), purpose="bot, from nginx"), declared)
    assert [(item.port, item.connections) for item in web.openings] == [(80, 128), (443, 128), (9100, None)]
    assert settings_for(inventory(firewall={"enabled": False}), "bot1") is None
