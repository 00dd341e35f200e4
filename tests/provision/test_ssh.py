"""How hosts are reached: keys that are checked, and errors that tell what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from inventory.model import Bastion, Host, Inventory
from provision import ssh

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1TrMRtPh1G1NTgXxV9ywGfrfDRKpbHaCfmTyLZCqzm comment"
OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOther"


def inventory(known_hosts: Path | None = None, **hosts: Host) -> Inventory:
    models = {"default": {"engine": "openai-compatible", "endpoint": "https://models.example.com/v1"}}
    return Inventory.model_validate({"hosts": hosts, "models": models, "known_hosts": known_hosts})


def test_a_declared_key_wins_over_one_accepted_before(tmp_path: Path) -> None:
    user_file = tmp_path / "known_hosts"
    user_file.write_text(f"192.0.2.1 {OTHER}\nelsewhere.example {OTHER}\n# a comment\n\n")
    declared = inventory(one=Host(address="192.0.2.1", host_key=KEY))
    lines = ssh.known_hosts(declared, declared.hosts, user_file).splitlines()
    assert lines == ["192.0.2.1 " + " ".join(KEY.split()[:2]), f"elsewhere.example {OTHER}"]


def test_another_port_has_its_own_form(tmp_path: Path) -> None:
    host = Host(
        address="h.example", port=2222, host_key=KEY, bastion=Bastion(address="b.example", host_key=KEY)
    )
    declared = inventory(one=host)
    text = ssh.known_hosts(declared, declared.hosts, tmp_path / "none")
    assert text.startswith("[h.example]:2222 ssh-ed25519 AAAA")
    assert "\nb.example ssh-ed25519 AAAA" in text


def test_a_jump_host_stands_in_the_ssh_config() -> None:
    host = Host(address="h.example", user="ops", bastion=Bastion(address="b.example", port=2200))
    assert ssh.ssh_config({"one": host}) == "Host h.example\n    ProxyJump ops@b.example:2200\n"


def test_host_keys_are_always_checked(tmp_path: Path) -> None:
    data = ssh.pyinfra_data(Host(address="h.example", user="ops"), tmp_path)
    assert data["ssh_strict_host_key_checking"] == "yes"
    assert data["_sudo"] is True
    assert ssh.pyinfra_data(Host(address="h.example"), tmp_path)["_sudo"] is False


@pytest.mark.parametrize(
    ("cause", "says", "advises"),
    [
        (
            "StrictPolicy: No host key for h found in known_hosts",
            "host key is not known",
            "ssh-keyscan -p 22",
        ),
        ("Host key for h does not match.", "another host key", "host_key"),
        ("Authentication error (username=root)", "login refused", "authorized_keys"),
        ("Could not resolve hostname (x)", "cannot be resolved", "hosts.one.address"),
        ("Could not connect ([Errno 111] Connection refused)", "cannot be reached", "port"),
    ],
)
def test_errors_tell_what_to_do(cause: str, says: str, advises: str) -> None:
    error = ssh.connect_error("one", Host(address="h.example"), OSError(cause))
    assert "one (root@h.example:22)" in error.message
    assert says in error.message
    assert advises in error.advice
