"""SSH servers behind jump hosts, reached as every command reaches them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import paramiko
import pytest

from inventory.load import LoadedInventory
from inventory.model import Inventory
from provision.connection.session import Session
from provision.local.run_log import RunLog
from tests.provision.ssh_servers import Server, serving

PRIVATE = "10.255.255.5"


@dataclass
class Network:
    """Two hosts at one private address, each behind a jump host of its own."""

    jumps: dict[str, Server]
    hosts: dict[str, Server]
    key: Path
    folder: Path

    def inventory(self, **jump_keys: str | None) -> Inventory:
        """Declares the hosts; `jump_keys` says another host key of a jump host, or none."""
        hosts = {
            name: {
                "address": PRIVATE,
                "user": "ops",
                "ssh_key": str(self.key),
                "host_key": host.public_key,
                "bastion": {
                    "address": "127.0.0.1",
                    "port": self.jumps[name].port,
                    "user": "jumper",
                    "host_key": jump_keys.get(name, self.jumps[name].public_key),
                },
            }
            for name, host in self.hosts.items()
        }
        models = {"default": {"engine": "openai-compatible", "endpoint": "https://models.example.com/v1"}}
        return Inventory.model_validate({"hosts": hosts, "models": models})


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    key = paramiko.ECDSAKey.generate()
    key.write_private_key_file(str(tmp_path / "key"))
    hosts = {name: Server(key) for name in ("east", "west")}
    jumps = {name: Server(key, behind=host) for name, host in hosts.items()}
    with serving(*hosts.values(), *jumps.values()):
        yield Network(jumps, hosts, tmp_path / "key", tmp_path)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[RunLog]:
    opened = RunLog("test", tmp_path / "log")
    yield opened
    opened.close()


def session(network: Network, log: RunLog, inventory: Inventory) -> Session:
    loaded = LoadedInventory(inventory, network.folder / "inventory.yml")
    return Session(loaded, tuple(inventory.hosts), log)


def port_of(hosts: Session, name: str) -> int:
    """Where a host's commands are run."""
    return int(hosts.links[name].run("sh -c 'echo $SERVER_PORT'").stdout)


def test_hosts_with_one_address_are_distinguished_by_their_jump_hosts(network: Network, log: RunLog) -> None:
    with session(network, log, network.inventory()) as hosts:
        assert hosts.connect() == {}
        for name in ("east", "west"):
            assert port_of(hosts, name) == network.hosts[name].port
            assert network.jumps[name].logins == ["jumper"]
            assert network.jumps[name].asked == [(PRIVATE, 22)]
            assert network.hosts[name].logins == ["ops"]


def test_jump_host_may_be_a_host_of_the_inventory(network: Network, log: RunLog) -> None:
    jump, host = network.jumps["east"], network.hosts["east"]
    behind = {"address": PRIVATE, "user": "ops", "host_key": host.public_key, "bastion": {"host": "gate"}}
    gate = {
        "address": "127.0.0.1",
        "port": jump.port,
        "user": "jumper",
        "ssh_key": str(network.key),
        "host_key": jump.public_key,
    }
    inventory = Inventory.model_validate(
        {
            "hosts": {"east": {**behind, "ssh_key": str(network.key)}, "gate": gate},
            "models": {
                "default": {"engine": "openai-compatible", "endpoint": "https://models.example.com/v1"}
            },
        }
    )
    loaded = LoadedInventory(inventory, network.folder / "inventory.yml")
    with Session(loaded, ("east",), log) as hosts:
        assert hosts.connect() == {}
        assert port_of(hosts, "east") == host.port
    assert (jump.logins, jump.asked) == (["jumper"], [(PRIVATE, 22)])


def test_jump_host_with_unknown_key_is_refused_without_asking(
    network: Network, log: RunLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("the user may not be asked"))
    with session(network, log, network.inventory(east=None)) as hosts:
        unreachable = hosts.connect()
        assert hosts.hosts == ("west",)
    assert "its jump host jumper@127.0.0.1" in unreachable["east"].message
    assert "its host key is not known" in unreachable["east"].message
    assert "`hosts.east.bastion`" in unreachable["east"].advice
    assert network.jumps["east"].logins == []


def test_jump_host_with_another_key_is_refused(network: Network, log: RunLog) -> None:
    other = network.hosts["east"].public_key
    with session(network, log, network.inventory(east=other)) as hosts:
        unreachable = hosts.connect()
    assert "its jump host jumper@127.0.0.1" in unreachable["east"].message
    assert "another host key" in unreachable["east"].message
    assert network.jumps["east"].logins == []
