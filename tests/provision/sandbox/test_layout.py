from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from inventory.errors import SandboxError
from provision.sandbox.layout import MAX_HOSTS, Layout, host_name, number_of


def test_default_layout_is_that_of_the_sandbox_inventory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLAWD_SANDBOX", raising=False)
    layout = Layout()
    project = Path(__file__).resolve().parents[3]
    inventory = (project / "inventory" / "sandbox.yml").read_text()
    assert f"address: {layout.address('bot1')}" in inventory
    assert layout.folder == project / ".sandbox"
    assert f"http://{layout.machine_address}:" in inventory


def test_environment_variables_set_folder_and_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CLAWD_SANDBOX", str(tmp_path / "box"))
    monkeypatch.setenv("CLAWD_CACHE", str(tmp_path / "cache"))
    assert Layout().folder == tmp_path / "box"
    assert Layout().cache == tmp_path / "cache" / "sandbox"


def test_every_host_has_its_own_address_within_the_subnet(layout: Layout) -> None:
    addresses = [layout.address(host_name(number)) for number in range(1, MAX_HOSTS + 1)]
    assert addresses[0] == IPv4Address("10.213.78.11")
    assert len(set(addresses)) == MAX_HOSTS
    assert all(address in layout.subnet for address in addresses)
    assert layout.machine_address not in addresses
    assert layout.subnet.broadcast_address not in addresses


def test_interface_names_have_at_most_15_characters(layout: Layout) -> None:
    assert len(layout.interface(host_name(MAX_HOSTS))) <= 15


@pytest.mark.parametrize("name", ["", "bot", "bot0", "bot01", "bot100", "bot-1", "bot١", "web1", "../bot1"])
def test_invalid_host_name_is_refused(name: str) -> None:
    with pytest.raises(SandboxError, match="not the name of a sandbox host"):
        number_of(name)


def test_unusable_bridge_and_subnet_are_refused() -> None:
    with pytest.raises(ValueError, match="1 to 6 characters"):
        Layout(bridge="toolong")
    with pytest.raises(ValueError, match="too small"):
        Layout(subnet=IPv4Network("10.0.0.0/25"))
