"""How hosts are reached: the way there, keys that are checked, logins, and errors with hints."""

from __future__ import annotations

import base64
import getpass
import os
import shutil
import socket
import subprocess
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import gevent
import paramiko
import pytest

from inventory.errors import ConnectError
from inventory.load import LoadedInventory
from inventory.local_files import existence as named_files
from inventory.model import Inventory
from provision.local.ask import NoTerminal
from provision.local.concurrency import outcomes
from provision.ssh import connect
from provision.ssh.config import SshConfig
from provision.ssh.connect import dial
from provision.ssh.connect_errors import HostKeyError, connect_error
from provision.ssh.host_key_proof import PROVE, proven
from provision.ssh.known_hosts import HostKeyVerdict, KnownHosts, Trust
from provision.ssh.login import LoginRefusedError
from provision.ssh.route import Hop, Route, route_to, with_addresses
from tests.provision.sshd import Sshd, agent, keygen, needs_sshd, serving

pytestmark = pytest.mark.slow

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1TrMRtPh1G1NTgXxV9ywGfrfDRKpbHaCfmTyLZCqzm"
MODELS = {"default": {"engine": "openai-compatible", "endpoint": "https://models.example.com/v1"}}


def inventory(**hosts: dict[str, object]) -> Inventory:
    return Inventory.model_validate({"hosts": hosts, "models": MODELS})


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    (folder / ".ssh").mkdir(parents=True, mode=0o700)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return folder


def user_config(home: Path, text: str) -> SshConfig:
    (home / ".ssh" / "config").write_text(text)
    return SshConfig(home, home / "no system file")


def ways(route: Route) -> list[tuple[str, str, int]]:
    return [(hop.user, hop.address, hop.port) for hop in route.hops]


# The way


def test_route_prefers_inventory_then_ssh_config_then_defaults(home: Path) -> None:
    config = user_config(
        home, "Host prod1\n    HostName 203.0.113.5\n    Port 2222\n    User anna\n    IdentityFile ~/prod\n"
    )
    declared = inventory(
        one={"address": "prod1"},
        two={"address": "prod1", "user": "root", "port": 22, "ssh_key": "/keys/own"},
        three={"address": "elsewhere"},
    )
    assert ways(route_to(declared, "one", config)) == [("anna", "203.0.113.5", 2222)]
    assert route_to(declared, "one", config).host.keys.named == (home / "prod",)
    assert ways(route_to(declared, "two", config)) == [("root", "203.0.113.5", 22)]
    own = route_to(declared, "two", config).host.keys
    assert (own.named, own.only_named) == ((Path("/keys/own"),), True)
    assert ways(route_to(declared, "three", config)) == [("root", "elsewhere", 22)]


def test_route_contains_jump_hosts_of_ssh_config(home: Path) -> None:
    config = user_config(
        home,
        """
Host prod1
    ProxyJump gate,jumper@inner:2200
Host gate
    HostName gate.example
    User gatekeeper
    ProxyJump outer
Host outer inner
    User other
    ProxyJump wrong
Host outer
    ProxyJump none
""".replace("    ProxyJump wrong\n", ""),
    )
    route = route_to(inventory(one={"address": "prod1"}), "one", config)
    assert ways(route) == [
        ("other", "outer", 22),
        ("gatekeeper", "gate.example", 22),
        ("jumper", "inner", 2200),
        ("root", "prod1", 22),
    ]
    assert route.where(0) == "one: its jump host other@outer:22"


def test_declared_jump_host_is_preferred_and_may_be_an_alias(home: Path) -> None:
    config = user_config(
        home,
        "Host gate\n    HostName 198.51.100.1\n    Port 2200\n    User keeper\n"
        "Host inner\n    ProxyJump wrong\n    ProxyCommand none\n",
    )
    hosts = inventory(
        one={"address": "inner", "user": "ops", "bastion": {"address": "gate"}},
        two={"address": "inner", "user": "ops", "bastion": {"address": "gate", "user": "me", "port": 22}},
        three={"address": "inner", "user": "ops", "bastion": {"host": "front"}},
        front={"address": "gate"},
    )
    assert ways(route_to(hosts, "one", config))[0] == ("keeper", "198.51.100.1", 2200)
    assert ways(route_to(hosts, "two", config))[0] == ("me", "198.51.100.1", 22)
    assert ways(route_to(hosts, "three", config)) == [
        ("keeper", "198.51.100.1", 2200),
        ("ops", "inner", 22),
    ]


@pytest.mark.parametrize("alias", ["web_1", "1_web", "_web", "prod_web.internal"])
def test_alias_with_an_underscore_is_resolved(home: Path, alias: str) -> None:
    loaded = LoadedInventory(inventory(one={"address": alias}), home / "x.yml")
    config = user_config(home, f"Host {alias}\n    HostName 203.0.113.5\n")
    assert with_addresses(loaded, config).inventory.internal("one") == "203.0.113.5"
    config = user_config(home, "Host other\n    HostName 203.0.113.5\n")
    with pytest.raises(ConnectError, match=f"one: .*config does not resolve `{alias}` to a host") as caught:
        with_addresses(loaded, config)
    assert f"`Host {alias}`" in caught.value.advice


def test_circular_jump_hosts_are_reported(home: Path) -> None:
    config = user_config(home, "Host a\n    ProxyJump b\nHost b\n    ProxyJump c\nHost c\n    ProxyJump b\n")
    with pytest.raises(ConnectError, match="lead in a circle: b → c → b"):
        route_to(inventory(one={"address": "a"}), "one", config)


def test_components_get_the_address_of_an_alias(home: Path) -> None:
    config = user_config(home, "Host prod1\n    HostName 203.0.113.5\n    Port 2222\n    User anna\n")
    loaded = LoadedInventory(
        inventory(one={"address": "prod1"}, two={"address": "192.0.2.2"}), home / "x.yml"
    )
    found = with_addresses(loaded, config)
    assert (found.inventory.internal("one"), found.inventory.internal("two")) == ("203.0.113.5", "192.0.2.2")
    assert (found.inventory.hosts["one"].user, found.inventory.hosts["one"].port) == ("anna", 2222)
    assert found.declared == loaded.inventory
    behind = inventory(one={"address": "192.0.2.1", "bastion": {"address": "prod1"}})
    jump = with_addresses(LoadedInventory(behind, home / "x.yml"), config).inventory.hosts["one"].bastion
    assert jump is not None
    assert jump.address == "203.0.113.5"
    assert ways(route_to(found.declared, "one", config)) == [("anna", "203.0.113.5", 2222)]
    assert with_addresses(loaded, user_config(home, "")) is loaded


# Real servers


def reach(server: Sshd, hosts: Inventory, name: str = "one") -> str:
    """Return the version of the server, once logged in."""
    with closing(dial(route_to(hosts, name, SshConfig()), NoTerminal())) as transport:
        assert transport.is_authenticated()
        return str(transport.remote_version)


def at(server: Sshd, **more: object) -> dict[str, object]:
    return {"address": "127.0.0.1", "port": server.port, "user": server.user, **more}


@needs_sshd
@pytest.mark.parametrize(
    ("kind", "form"),
    [
        ("ed25519", "openssh"),
        *((kind, form) for kind in ("ecdsa", "rsa") for form in ("openssh", "PEM", "PKCS8")),
    ],
)
def test_keys_of_every_type_and_format_log_in(home: Path, kind: str, form: str) -> None:
    key = keygen(home / "key", kind, "", *(() if form == "openssh" else ("-m", form)))
    with serving(home / "sshd", key) as server:
        hosts = inventory(one=at(server, ssh_key=str(key), host_key=server.host_key()))
        assert reach(server, hosts).startswith("SSH-2.0-OpenSSH")


@needs_sshd
@pytest.mark.parametrize("next_to_it", ["nothing", "its public half"])
def test_encrypted_key_in_the_agent_is_used_through_it(
    home: Path, next_to_it: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also among many: a server ends a connection after a few keys that it does not take."""
    form = () if next_to_it == "nothing" else ("-m", "PEM")
    key = keygen(home / "key", "rsa", "secret", *form)
    others = [keygen(home / f"other{number}") for number in range(8)]
    given = Path(shutil.copy(key, home / "copy")) if next_to_it == "nothing" else key
    with (
        serving(home / "sshd", key, options="MaxAuthTries 3\n") as server,
        agent(home, *others, key, passphrase="secret") as path,
    ):
        monkeypatch.setenv("SSH_AUTH_SOCK", path)
        assert reach(server, inventory(one=at(server, ssh_key=str(given), host_key=server.host_key())))
        (home / ".ssh" / "config").write_text(f"Host *\n    IdentityFile {given}\n")
        assert reach(server, inventory(one=at(server, host_key=server.host_key())))
        (home / ".ssh" / "config").write_text(
            f"Host *\n    IdentityAgent {path}\n    IdentityFile {key}.pub\n"
        )
        monkeypatch.delenv("SSH_AUTH_SOCK")
        assert reach(server, inventory(one=at(server, host_key=server.host_key())))


@needs_sshd
@pytest.mark.parametrize("named", ["public key", "private key that is not there"])
def test_public_key_file_selects_the_key_of_the_agent(
    home: Path, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `IdentityFile` does for ssh(1); also among more keys than the server lets anyone try."""
    key = keygen(home / "key")
    others = [keygen(home / f"other{number}") for number in range(8)]
    with (
        serving(home / "sshd", key, options="MaxAuthTries 3\n") as server,
        agent(home, *others, key) as path,
    ):
        monkeypatch.setenv("SSH_AUTH_SOCK", path)
        key.unlink()
        given = f"{key}.pub" if named == "public key" else str(key)
        hosts = inventory(one=at(server, ssh_key=given, host_key=server.host_key()))
        assert list(named_files.files(hosts)) == []
        assert reach(server, hosts)
        key.with_name("key.pub").write_bytes(others[0].with_name("other0.pub").read_bytes())
        with pytest.raises(ConnectError, match="login refused"):
            reach(server, hosts)


@needs_sshd
def test_encrypted_key_is_opened_with_the_declared_or_typed_passphrase(home: Path) -> None:
    key = keygen(home / "key", "ed25519", "secret")
    asked: list[str] = []

    class Person:
        def secret(self, kind: str, question: str, accepted: Callable[[str], bool]) -> str | None:
            asked.append(question)
            return next((each for each in ("wrong", "secret") if accepted(each)), None)

    with serving(home / "sshd", key) as server:
        known = at(server, ssh_key=str(key), host_key=server.host_key())
        assert reach(server, inventory(one={**known, "ssh_key_password": "secret"}))
        with closing(dial(route_to(inventory(one=known), "one", SshConfig()), Person())) as transport:
            assert transport.is_authenticated()
        assert asked == [f"passphrase of {key}"]
        with pytest.raises(ConnectError) as caught:
            reach(server, inventory(one=known))
        assert f"{key} is encrypted, and the agent does not hold it" in caught.value.message
        assert "`ssh_key_password: !env NAME` under `hosts.one`" in caught.value.advice
        with pytest.raises(ConnectError, match="`ssh_key_password` does not open it"):
            reach(server, inventory(one={**known, "ssh_key_password": "wrong"}))


@needs_sshd
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a private key"),
        (b"nonsense\n", "not a private key"),
        (b"PuTTY-User-Key-File-3: ssh-ed25519\n", "a key of PuTTY"),
        (
            b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
            "not a private key",
        ),
        (KEY.encode(), "is a public key, and the agent does not hold its private part"),
    ],
)
def test_unusable_key_file_is_reported(home: Path, content: bytes, says: str) -> None:
    key = keygen(home / "key")
    (home / "given").write_bytes(content)
    with serving(home / "sshd", key) as server:
        hosts = inventory(one=at(server, ssh_key=str(home / "given"), host_key=server.host_key()))
        with pytest.raises(ConnectError, match="login refused") as caught:
            reach(server, hosts)
    assert says in caught.value.message
    assert "there is no key to try" in caught.value.message


@needs_sshd
def test_refused_login_lists_the_tried_keys(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right, wrong = keygen(home / "right"), keygen(home / ".ssh" / "id_ed25519")
    others = [keygen(home / f"other{number}") for number in range(4)]
    with serving(home / "sshd", right, options="MaxAuthTries 3\n") as server:
        hosts = inventory(one=at(server, host_key=server.host_key()))
        with pytest.raises(ConnectError, match=f"login refused .tried {wrong}.") as caught:
            reach(server, hosts)
        assert "authorized_keys" in caught.value.advice
        with agent(home, *others) as path:
            monkeypatch.setenv("SSH_AUTH_SOCK", path)
            with pytest.raises(ConnectError, match="it ended the connection after 3 keys") as caught:
                reach(server, hosts)
            assert "`ssh_key:`" in caught.value.advice
        monkeypatch.setenv("SSH_AUTH_SOCK", str(home / "absent"))
        with pytest.raises(ConnectError, match=r"the agent at .*absent does not answer"):
            reach(server, hosts)


@needs_sshd
def test_known_hosts_are_read_despite_unreadable_lines(home: Path) -> None:
    key = keygen(home / "key")
    file = home / ".ssh" / "known_hosts"
    with serving(home / "sshd", key, host_keys=("rsa", "ed25519", "ecdsa")) as server:
        hosts = inventory(one=at(server, ssh_key=str(key)))
        before = f"@cert-authority *.example {KEY}\n@revoked * {KEY}\nelsewhere {KEY[:50]}\n\xff\n"
        for kind in ("ed25519", "ecdsa", "rsa"):
            file.write_text(f"{before}[127.0.0.1]:{server.port} {server.host_key(kind)}\r\n")
            assert reach(server, hosts)
        subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(file)], check=False, capture_output=True)
        file.write_text(f"{before}127.0.0.1 {server.host_key()}\n")
        assert reach(server, hosts)
        file.write_text(before)
        with pytest.raises(ConnectError, match="its host key is not known") as caught:
            reach(server, hosts)
        assert f"{file}:3: the key is not base64, or truncated" in caught.value.message
        assert f"{file}:4: the line is truncated" in caught.value.message
        file.write_text(f"* {server.host_key()}\n@revoked [127.0.0.1]:* {server.host_key()}\n")
        with pytest.raises(ConnectError, match=f"its host key is revoked .{file}:2."):
            reach(server, hosts)
        file.write_text(f"# no\n[127.0.0.1]:{server.port} {KEY}\n")
        with pytest.raises(ConnectError, match=f"another host key than the known one .{file}:2."):
            reach(server, hosts)
        file.write_text("")
        (home / "more").write_text(f"alias {server.host_key()}\n")
        (home / ".ssh" / "config").write_text(
            "Host *\n    UserKnownHostsFile ~/more\n    HostKeyAlias alias\n"
        )
        assert reach(server, hosts)


@needs_sshd
@pytest.mark.parametrize(
    ("known", "offered"), [("ecdsa", "ed25519"), ("rsa", "ed25519"), ("ed25519", "ecdsa")]
)
def test_host_is_known_by_a_key_that_its_sshd_no_longer_offers(home: Path, known: str, offered: str) -> None:
    key = keygen(home / "key")
    file = home / ".ssh" / "known_hosts"
    options = (
        "HostKeyAlgorithms {ecdsa},{ed25519}\n" if known == "rsa" else f"HostKeyAlgorithms {{{offered}}}\n"
    )
    options = options.format(ecdsa="ecdsa-sha2-nistp256", ed25519="ssh-ed25519")
    with serving(home / "sshd", key, host_keys=("rsa", "ed25519", "ecdsa"), options=options) as server:
        name = f"[127.0.0.1]:{server.port}"
        file.write_text(f"{name} {server.host_key(known)}\n")
        assert reach(server, inventory(one=at(server, ssh_key=str(key))))
        pinned = {"ssh_key": str(key), "host_key": server.host_key(known)}
        assert reach(server, inventory(one=at(server, **pinned)))
        file.write_text(f"{name} {server.host_key(known)}\n@revoked * {server.host_key(known)}\n")
        with pytest.raises(ConnectError, match="another host key than the known one"):
            reach(server, inventory(one=at(server, ssh_key=str(key))))


@needs_sshd
def test_other_server_with_a_key_of_another_type_is_refused(home: Path) -> None:
    key, stranger = keygen(home / "key"), keygen(home / "stranger")
    other = keygen(home / "other", "ecdsa").with_name("other.pub").read_text()
    file = home / ".ssh" / "known_hosts"
    with serving(home / "sshd", key, host_keys=("ed25519", "ecdsa")) as server:
        file.write_text(f"[127.0.0.1]:{server.port} {other}")
        for login in (key, stranger):
            with pytest.raises(ConnectError, match=f"another host key than the known one .{file}:1."):
                reach(server, inventory(one=at(server, ssh_key=str(login))))


@needs_sshd
def test_host_key_proof_is_valid_only_in_its_own_connection(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = keygen(home / "key")
    options = "HostKeyAlgorithms ssh-ed25519\n"
    with serving(home / "sshd", key, host_keys=("ed25519", "ecdsa"), options=options) as server:
        hosts = inventory(one=at(server, ssh_key=str(key), host_key=server.host_key("ecdsa")))
        held = base64.b64decode(server.host_key("ecdsa").split()[1])
        with (
            closing(dial(route_to(hosts, "one", SshConfig()), NoTerminal())) as mine,
            closing(dial(route_to(hosts, "one", SshConfig()), NoTerminal())) as other,
        ):
            assert proven(mine, [held]) == held
            relayed = other.global_request(PROVE, (held,), wait=True).asbytes()
            monkeypatch.setattr(mine, "global_request", lambda *_, **__: paramiko.Message(relayed))
            assert proven(mine, [held]) is None
            for answer in (b"", b"\xff" * 40, paramiko.Message().asbytes()):
                monkeypatch.setattr(mine, "global_request", lambda *_, a=answer, **__: paramiko.Message(a))
                assert proven(mine, [held, b"", b"\0\0\0\4none"]) is None


@needs_sshd
@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_host_certificate_of_a_known_authority_is_trusted(home: Path, kind: str) -> None:
    key, authority = keygen(home / "key"), keygen(home / "ca")
    (home / "sshd").mkdir()
    host = keygen(home / "sshd" / f"host_{kind}", kind)
    sign = ["ssh-keygen", "-q", "-s", str(authority), "-I", "id", "-h", "-n", "127.0.0.1", f"{host}.pub"]
    subprocess.run(sign, check=True, capture_output=True)
    file = home / ".ssh" / "known_hosts"
    options = f"HostCertificate {host}-cert.pub\n"
    with serving(home / "sshd", key, host_keys=(kind,), options=options) as server:
        hosts = inventory(one=at(server, ssh_key=str(key)))
        file.write_text(f"@cert-authority 127.* {(home / 'ca.pub').read_text()}")
        assert reach(server, hosts)
        file.write_text(f"[127.0.0.1]:{server.port} {server.host_key(kind)}\n" + file.read_text())
        assert reach(server, hosts)
        file.write_text(f"@cert-authority elsewhere {(home / 'ca.pub').read_text()}")
        with pytest.raises(ConnectError, match="its host key is not known"):
            reach(server, hosts)
        (home / "other.pub").write_text(keygen(home / "ca2").with_suffix(".pub").read_text())
        file.write_text(f"@cert-authority 127.* {(home / 'other.pub').read_text()}")
        with pytest.raises(ConnectError, match="its host key is not known"):
            reach(server, hosts)


@needs_sshd
def test_proxy_command_is_used(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = keygen(home / "key")
    with serving(home / "sshd", key) as server:
        hosts = inventory(
            one={"address": "hidden", "user": server.user, "ssh_key": str(key), "host_key": server.host_key()}
        )
        script = home / "proxy"
        script.write_text(
            "#!/usr/bin/env python3\nimport os, socket, sys, threading\n"
            "assert sys.argv[1:] == ['hidden', '22', '%'], sys.argv\n"
            f"s = socket.create_connection(('127.0.0.1', {server.port}))\n"
            "def back():\n    while d := s.recv(65536): os.write(1, d)\n    os._exit(0)\n"
            "threading.Thread(target=back, daemon=True).start()\n"
            "while d := os.read(0, 65536): s.sendall(d)\n"
        )
        script.chmod(0o700)
        (home / ".ssh" / "config").write_text(f"Host hidden\n    ProxyCommand {script} %h %p %%\n")
        assert reach(server, hosts)
        # As `ssh` gives it to the shell.
        monkeypatch.setenv("PROXY", str(script))
        command = "$PROXY $(echo %h) %p '%%' 2>/dev/null"
        (home / ".ssh" / "config").write_text(f"Host hidden\n    ProxyCommand {command}\n")
        assert reach(server, hosts)


@needs_sshd
@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("sh -c 'exit 3'", "status 3"),
        ("exit 3", "status 127: "),
        ("/bin/true", "status 0"),
        ("/bin/false", "status 1"),
        ("echo hi", "status 0"),
        ("no-such-program %h", "no-such-program"),
        ("sh -c 'echo starting; echo the gate is closed >&2; exit 4'", "status 4: the gate is closed"),
        ("kill -9 $$", "status -9"),
    ],
)
def test_failed_proxy_command_is_reported_with_its_output(
    home: Path, command: str, says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    hosts = inventory(one={"address": "hidden", "user": "ops"})
    (home / ".ssh" / "config").write_text(f"Host hidden\n    ProxyCommand {command}\n")
    for _ in range(4):
        with pytest.raises(ConnectError, match=r"one .ops@hidden:22.: .*its ProxyCommand failed") as caught:
            dial(route_to(hosts, "one", SshConfig()), NoTerminal())
        assert says in caught.value.message
        assert command.replace("%h", "hidden") in caught.value.advice
    gevent.sleep(0.2)
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("stubborn", ["", "trap '' TERM; "])
def test_proxy_command_ends_with_the_connection(
    home: Path, monkeypatch: pytest.MonkeyPatch, stubborn: str
) -> None:
    monkeypatch.setattr(connect, "CONNECT_TIMEOUT", 0.5)
    hosts = inventory(one={"address": "hidden", "user": "ops"})
    (home / "command").write_text(f"{stubborn}echo $$ > {home}/pid; while :; do sleep 0.1; done\n")
    (home / ".ssh" / "config").write_text(f"Host hidden\n    ProxyCommand sh {home}/command\n")
    with pytest.raises(ConnectError, match=r"sends no SSH banner|no answer within"):
        dial(route_to(hosts, "one", SshConfig()), NoTerminal())
    assert not Path(f"/proc/{(home / 'pid').read_text().strip()}").exists()


def test_proxy_command_has_the_terminal_and_ignores_ctrl_c(home: Path) -> None:
    """It stays in the session of this program, and ignores Ctrl-C."""
    hosts = inventory(one={"address": "hidden", "user": "ops"})
    (home / "command").write_text(
        f"import os, signal\nkept = signal.getsignal(signal.SIGINT) is signal.SIG_IGN\n"
        f"open({str(home / 'seen')!r}, 'w').write(f'{{os.getsid(0)}} {{kept}}')\n"
    )
    (home / ".ssh" / "config").write_text(f"Host hidden\n    ProxyCommand python3 {home}/command\n")
    with pytest.raises(ConnectError, match="its ProxyCommand failed"):
        dial(route_to(hosts, "one", SshConfig()), NoTerminal())
    assert (home / "seen").read_text() == f"{os.getsid(0)} True"


@needs_sshd
def test_key_with_only_its_public_file_is_used_through_the_agent(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = keygen(home / "key")
    others = [keygen(home / f"other{number}") for number in range(4)]
    shutil.copy(f"{key}.pub", home / ".ssh" / "work.pub")
    (home / ".ssh" / "config").write_text(
        "Host *\n    IdentityFile ~/.ssh/work\n    IdentityFile ~/.ssh/gone\n    IdentitiesOnly yes\n"
    )
    with serving(home / "sshd", key, options="MaxAuthTries 2\n") as server:
        hosts = inventory(one=at(server, host_key=server.host_key()))
        with pytest.raises(ConnectError, match="login refused") as caught:
            reach(server, hosts)
        assert f"{home}/.ssh/gone does not exist" in caught.value.message
        assert f"of {home}/.ssh/work there is only the public part" in caught.value.message
        with agent(home, *others, key) as path:
            monkeypatch.setenv("SSH_AUTH_SOCK", path)
            assert reach(server, hosts)


@needs_sshd
@pytest.mark.parametrize("holder", ["file", "agent"])
@pytest.mark.parametrize("place", ["CertificateFile", "next to the key"])
def test_user_certificate_is_offered_with_its_key(
    home: Path, monkeypatch: pytest.MonkeyPatch, place: str, holder: str
) -> None:
    key, authority, other = (keygen(home / name) for name in ("key", "authority", "other"))
    subprocess.run(
        ["ssh-keygen", "-q", "-s", authority, "-I", "ops", "-n", getpass.getuser(), f"{key}.pub"], check=True
    )
    lines = f"Host *\n    IdentityFile {key}\n"
    if place == "CertificateFile":
        shutil.move(f"{key}-cert.pub", home / "signed")
        lines += f"    CertificateFile {home}/signed\n    CertificateFile {other}.pub\n"
    (home / ".ssh" / "config").write_text(lines)
    trusted = f"TrustedUserCAKeys {authority}.pub\n"
    with serving(home / "sshd", other, options=trusted) as server, agent(home, key) as path:
        if holder == "agent":
            monkeypatch.setenv("SSH_AUTH_SOCK", path)
            key.unlink()
        hosts = inventory(one=at(server, host_key=server.host_key()))
        assert reach(server, hosts)
    with serving(home / "plain", key) as server:
        if holder == "file":
            assert reach(server, inventory(one=at(server, host_key=server.host_key())))


def test_concurrent_logins_to_one_server_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers drop connections when too many have not logged in yet, and many hosts share a jump host."""
    now: Counter[str] = Counter()
    most: Counter[str] = Counter()

    def reach(hop: Hop, *_: object) -> None:
        now[hop.address] += 1
        most[hop.address] = max(most[hop.address], now[hop.address])
        gevent.sleep(0.01)
        now[hop.address] -= 1
        raise TimeoutError("no answer within a second")

    monkeypatch.setattr(connect, "_reach", reach)
    routes = [Route(f"host{n}", (Hop(f"jump{n % 2}", 22, "ops"),)) for n in range(60)]
    ended = outcomes(routes, lambda route: dial(route, NoTerminal()))
    assert all(isinstance(error, ConnectError) for error in ended.values())
    assert most == {"jump0": connect.LOGINS_AT_ONCE, "jump1": connect.LOGINS_AT_ONCE}
    assert connect.LOGINS_AT_ONCE < 10


# The words


ROUTE = Route(
    "one",
    (
        Hop("10.0.0.1", 2200, "ops", "hosts.one.bastion"),
        Hop("10.0.0.10", 22, "ops", "hosts.one"),
    ),
)


def unknown(trust: Trust, place: str = "") -> HostKeyError:
    return HostKeyError(HostKeyVerdict(trust, place), KnownHosts())


@pytest.mark.parametrize(
    ("cause", "says", "advises"),
    [
        (
            unknown(Trust.UNKNOWN),
            "its host key is not known",
            "ssh-keyscan -p 22 10.0.0.10`, run on the jump",
        ),
        (
            unknown(Trust.CHANGED, "f:3"),
            "another host key than the known one (f:3)",
            "`ssh-keygen -R '10.0.0.10'`",
        ),
        (unknown(Trust.REVOKED, "f:3"), "its host key is revoked (f:3)", "new host key"),
        (LoginRefusedError(["k"], []), "login refused (tried k)", "authorized_keys"),
        (socket.gaierror(-2, "Name"), "its name cannot be resolved", "`hosts.one.address`"),
        (
            ConnectionRefusedError(111, "Connection refused"),
            "cannot be reached (Connection refused)",
            "firewall",
        ),
        (TimeoutError("timed out"), "cannot be reached (no answer within 15 s)", "firewall"),
        (EOFError(), "cannot be reached (it closed the connection)", "firewall"),
        (paramiko.SSHException("Error reading SSH protocol banner"), "sends no SSH banner", "MaxStartups"),
        (
            paramiko.ChannelException(1, "no"),
            "its jump host ops@10.0.0.1:2200: it lets no",
            "AllowTcpForwarding",
        ),
        (
            paramiko.ChannelException(2, "Connect failed"),
            "(ops@10.0.0.10:22): cannot be reached from its",
            "jump host",
        ),
    ],
)
def test_connection_errors_have_message_and_hint(cause: Exception, says: str, advises: str) -> None:
    error = connect_error(ROUTE, cause)
    assert says in error.message
    assert advises in error.advice


@pytest.mark.parametrize(
    ("cause", "says", "advises"),
    [
        (unknown(Trust.UNKNOWN), "its host key is not known", "`host_key:` under `hosts.one.bastion`"),
        (unknown(Trust.CHANGED, "f:3"), "another host key", "'[10.0.0.1]:2200'"),
        (socket.gaierror(-2, "Name"), "its name cannot be resolved", "`hosts.one.bastion.address`"),
        (ConnectionRefusedError(111, "Connection refused"), "cannot be reached", "firewall"),
    ],
)
def test_error_of_a_jump_host_names_the_jump_host(cause: Exception, says: str, advises: str) -> None:
    error = connect_error(ROUTE, cause, 0)
    assert error.message.startswith("one: its jump host ops@10.0.0.1:2200: ")
    assert says in error.message
    assert advises in error.advice


def test_jump_host_that_cannot_be_resolved_is_named(home: Path) -> None:
    hosts = inventory(one={"address": "10.0.0.10", "bastion": {"address": "gate.invalid"}})
    with pytest.raises(ConnectError, match=r"one: its jump host root@gate.invalid:22: its name cannot be"):
        dial(route_to(hosts, "one", SshConfig()), NoTerminal())


@pytest.mark.parametrize("name", ["a..b", f"{'a' * 64}.example"])
def test_malformed_host_name_is_reported_with_its_source(home: Path, name: str) -> None:
    hosts = inventory(one={"address": "alpha"})
    config = user_config(home, f"Host alpha\n    HostName {name}\n")
    with pytest.raises(ConnectError, match=r"its name (is malformed|cannot be resolved)") as caught:
        dial(route_to(hosts, "one", config), NoTerminal())
    assert caught.value.advice == "check `HostName` of `alpha` in ~/.ssh/config"


def test_server_that_does_not_speak_ssh_is_reported(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "CONNECT_TIMEOUT", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hosts = inventory(one={"address": "127.0.0.1", "port": silent.getsockname()[1]})
        with pytest.raises(ConnectError, match="sends no SSH banner"):
            dial(route_to(hosts, "one", SshConfig()), NoTerminal())


def test_algorithms_of_known_keys_are_preferred() -> None:
    known = KnownHosts().with_declared("h", 22, KEY, "here")
    assert connect.algorithms(known, ("h",))[0] == "ssh-ed25519"
    assert not any("cert" in each for each in connect.algorithms(known, ("h",)))
    assert connect.algorithms(KnownHosts(), ("h",)) == connect._ALGORITHMS
