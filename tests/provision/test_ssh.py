"""How hosts are reached: keys that are checked, and errors that tell what to do."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from paramiko import HostKeys, SSHConfig
from paramiko.config import SSH_PORT
from pyinfra.connectors.sshuserclient.client import SSHClient

from inventory.model import Bastion, Host, Inventory
from provision import ssh

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1TrMRtPh1G1NTgXxV9ywGfrfDRKpbHaCfmTyLZCqzm comment"
OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOther"


def inventory(known_hosts: Path | None = None, **hosts: Host) -> Inventory:
    models = {"default": {"engine": "openai-compatible", "endpoint": "https://models.example.com/v1"}}
    return Inventory.model_validate({"hosts": hosts, "models": models, "known_hosts": known_hosts})


def bare(key: str) -> str:
    return " ".join(key.split()[:2])


def test_a_declared_key_wins_over_one_accepted_before(tmp_path: Path) -> None:
    user_file = tmp_path / "known_hosts"
    user_file.write_text(f"192.0.2.1 {OTHER}\nelsewhere.example {OTHER}\n# a comment\n\n")
    host = Host(address="192.0.2.1", host_key=KEY)
    lines = ssh.known_hosts(inventory(one=host), host, user_file).splitlines()
    assert lines == [f"192.0.2.1 {bare(KEY)}", f"elsewhere.example {OTHER}"]


def test_a_declared_key_wins_over_a_hashed_line(tmp_path: Path) -> None:
    user_file = tmp_path / "known_hosts"
    user_file.write_text(f"h.example {OTHER}\n[h.example]:2222 {OTHER}\nelsewhere.example {OTHER}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(user_file)], check=True, capture_output=True)
    hashed = user_file.read_text().splitlines()
    assert [line[:3] for line in hashed] == ["|1|"] * 3
    user_file.write_text(user_file.read_text() + f"|1|x|y {OTHER}\n|1| {OTHER}\n")
    host = Host(address="h.example", port=2222, host_key=KEY)
    lines = ssh.known_hosts(inventory(one=host), host, user_file).splitlines()
    assert lines == [
        f"[h.example]:2222 {bare(KEY)}",
        hashed[0],
        hashed[2],
        f"|1|x|y {OTHER}",
        f"|1| {OTHER}",
    ]


def test_another_port_has_its_own_form(tmp_path: Path) -> None:
    host = Host(
        address="h.example", port=2222, host_key=KEY, bastion=Bastion(address="b.example", host_key=KEY)
    )
    text = ssh.known_hosts(inventory(one=host), host, tmp_path / "none")
    assert text.startswith("[h.example]:2222 ssh-ed25519 AAAA")
    assert "\nb.example ssh-ed25519 AAAA" in text


def test_both_readers_find_a_host_and_its_jump_host_under_the_same_rules(tmp_path: Path) -> None:
    host = Host(
        address="2001:db8::1",
        port=2222,
        user="ops",
        ssh_key=Path("/keys/of mine"),
        bastion=Bastion(address="2001:db8::2", port=2200, user="jumper"),
    )
    hosts = {"one": host, "two": Host(address="2001:db8::1")}
    ssh.write_files(inventory(**hosts), hosts, tmp_path)
    openssh = {name: _as_openssh_reads(tmp_path, name) for name in ("one", "jump.one", "two")}
    config = SSHConfig.from_path(str(ssh.config_file(tmp_path)))
    for name, address, port, user in (
        ("one", "2001:db8::1", "2222", "ops"),
        ("jump.one", "2001:db8::2", "2200", "jumper"),
        ("two", "2001:db8::1", "22", "root"),
    ):
        for read in (openssh[name], config.lookup(name)):
            assert (read["hostname"], read.get("port", "22"), read["user"]) == (address, port, user)
            assert read["stricthostkeychecking"] in {"yes", "true"}
            assert read["userknownhostsfile"].strip('"') == str(tmp_path / f"{name[-3:]}.known_hosts")
            assert read["serveraliveinterval"] == "15"
    assert config.lookup("jump.one")["identityfile"] == ["/keys/of mine"]
    assert openssh["one"]["proxyjump"] == config.lookup("one")["proxyjump"] == "jump.one"
    assert "proxyjump" not in config.lookup("two")


def test_pyinfra_looks_up_a_jump_host_on_the_usual_port_by_its_address_alone(tmp_path: Path) -> None:
    host = Host(address="h.example", bastion=Bastion(address="b.example", host_key=KEY))
    ssh.write_files(inventory(one=host), {"one": host}, tmp_path)
    config = SSHConfig.from_path(str(ssh.config_file(tmp_path)))
    _, hop = SSHClient.derive_shorthand(config, "jump.one")
    assert hop["port"] == SSH_PORT
    keys = HostKeys(str(tmp_path / "one.known_hosts"))
    assert list(keys) == ["b.example"]


def _as_openssh_reads(folder: Path, name: str) -> dict[str, str]:
    printed = subprocess.run(
        ["ssh", "-G", "-F", str(ssh.config_file(folder)), name], check=True, capture_output=True, text=True
    ).stdout
    return dict(line.split(" ", 1) for line in printed.splitlines() if " " in line)


def test_host_keys_are_always_checked(tmp_path: Path) -> None:
    data = ssh.pyinfra_data("one", Host(address="h.example", user="ops"), tmp_path)
    assert data["ssh_strict_host_key_checking"] == "yes"
    assert data["_sudo"] is True
    assert ssh.pyinfra_data("one", Host(address="h.example"), tmp_path)["_sudo"] is False


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
        ("No ED25519 host key is known for h and you have", "host key is not known", "ssh-keyscan -p 22"),
        ("Host key for h has changed and you have requested", "another host key", "host_key"),
        ("root@h: Permission denied (publickey).", "login refused", "authorized_keys"),
        ("Could not connect ([Errno 111] Connection refused)", "cannot be reached", "port"),
    ],
)
def test_errors_tell_what_to_do(cause: str, says: str, advises: str) -> None:
    error = ssh.connect_error("one", Host(address="h.example"), OSError(cause))
    assert "one (root@h.example:22)" in error.message
    assert says in error.message
    assert advises in error.advice


@pytest.mark.parametrize(
    ("cause", "says", "advises"),
    [
        (
            "No host key for [10.0.0.1]:2200 found",
            "its jump host ops@10.0.0.1:2200: its host key",
            "one.bastion`",
        ),
        ("Host key for 10.0.0.1 does not match.", "its jump host ops@10.0.0.1:2200", "'[10.0.0.1]:2200'"),
        ("No host key for 10.0.0.10 found", "one (ops@10.0.0.10:22): its host key", "run on the jump host"),
        ("Unable to connect to port 2200 on 10.0.0.1", "10.0.0.1:2200: cannot be reached", "firewall"),
    ],
)
def test_errors_tell_a_jump_host_from_the_host_behind_it(cause: str, says: str, advises: str) -> None:
    host = Host(address="10.0.0.10", user="ops", bastion=Bastion(address="10.0.0.1", port=2200))
    error = ssh.connect_error("one", host, OSError(cause))
    assert says in error.message
    assert advises in error.advice
