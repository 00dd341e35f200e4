"""Hosts of different test modules never share a network, because make runs modules in parallel."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).resolve().parent
BOX = re.compile(r'^box = boxes\("(\w+)", (\d+)\)', re.MULTILINE)
LAYOUT = re.compile(r'bridge="(\w+)",\s*subnet=IPv4Network\("10\.213\.(\d+)\.0/24"\)')
SCENARIO = re.compile(r'"\w+": \("(\w+)", "10\.213\.(\d+)\.0/24"\)')
BY_PROCESS = range(200, 250)
"""Networks that tests of the sandbox itself choose by the number of their process."""


def networks(source: str) -> list[tuple[str, str]]:
    """Return bridge and subnet of every sandbox that a module makes."""
    return [*BOX.findall(source), *LAYOUT.findall(source), *SCENARIO.findall(source)]


def test_every_module_has_networks_of_its_own() -> None:
    found = [
        network
        for source in (*TESTS.rglob("*.py"), *(TESTS.parent / "molecule").rglob("*.py"))
        if "sandbox" not in source.parts
        for network in networks(source.read_text())
        if source != Path(__file__)
    ]
    assert len(found) > 20
    assert {bridge for bridge, _ in found} >= {"clmol1", "clmol2"}
    for kind, used in zip(("bridge", "subnet"), zip(*found, strict=True), strict=True):
        twice = [name for name, count in Counter(used).items() if count > 1]
        assert twice == [], f"{kind} of several modules"
    assert not {int(subnet) for _, subnet in found} & set(BY_PROCESS)


def test_network_of_every_form_is_found() -> None:
    source = 'box = boxes("clab", 7)\nLayout(folder, bridge="clcd", subnet=IPv4Network("10.213.8.0/24"))\n'
    source += 'SUBNETS = {"default": ("clef", "10.213.9.0/24")}\n'
    assert networks(source) == [("clab", "7"), ("clcd", "8"), ("clef", "9")]
