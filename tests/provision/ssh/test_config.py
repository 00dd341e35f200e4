"""`~/.ssh/config` is honoured as `ssh` honours it."""

from __future__ import annotations

import getpass
import socket
from pathlib import Path

import pytest

from inventory.errors import ConnectError, ToolError
from provision.ssh import config as ssh_config
from provision.ssh.config import SshConfig, jump_of


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / ".ssh").mkdir(mode=0o700)
    return tmp_path


def config(home: Path, text: str, **files: str) -> SshConfig:
    (home / ".ssh" / "config").write_text(text)
    for name, content in files.items():
        (home / ".ssh" / f"{name}.conf").write_text(content)
    return SshConfig(home, home / "no system file")


def test_alias_is_resolved_with_all_its_settings(home: Path) -> None:
    found = config(
        home,
        """
Host prod1 other
    HostName 203.0.113.5
    Port 2222
    User anna
    IdentityFile ~/.ssh/prod
    IdentitiesOnly yes
    IdentityAgent ~/agent.sock
    ProxyJump gate,jumper@inner:2200
    HostKeyAlias prod
    UserKnownHostsFile ~/.ssh/a /etc/b
Host *
    User nobody
""",
    ).lookup("prod1")
    assert (found.address, found.port, found.user) == ("203.0.113.5", 2222, "anna")
    assert (found.keys, found.only_keys) == ((home / ".ssh" / "prod",), True)
    assert found.jumps == ("gate", "jumper@inner:2200")
    assert found.host_key_alias == "prod"
    assert found.known_hosts[:2] == (home / ".ssh" / "a", Path("/etc/b"))


def test_settings_missing_in_the_file_are_none(home: Path) -> None:
    (home / ".ssh" / "id_ed25519").touch()
    (home / ".ssh" / "id_rsa.pub").touch()
    found = config(home, "Host elsewhere\n    User anna\n").lookup("203.0.113.9")
    assert (found.address, found.user, found.jumps, found.proxy_command) == ("203.0.113.9", None, (), "")
    assert found.keys == (home / ".ssh" / "id_rsa", home / ".ssh" / "id_ed25519")
    assert found.known_hosts[:2] == (home / ".ssh" / "known_hosts", home / ".ssh" / "known_hosts2")
    assert Path("/etc/ssh/ssh_known_hosts") in found.known_hosts
    nothing = SshConfig(home / "missing", home / "no system file").lookup("h.example")
    assert (nothing.address, nothing.user, nothing.port) == ("h.example", None, None)
    assert nothing.keys == ()


def test_tokens_and_variables_of_key_files_are_expanded_as_by_ssh(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEYS", str(home / "keys"))
    settings = ("~/.ssh/key_%h", "%d/.ssh/%n-%p", "${KEYS}/%r", "%%/%x", "${UNSET_KEYS}/a", "%L_%u")
    lines = "".join(f"    IdentityFile {setting}\n" for setting in settings)
    found = config(
        home,
        f"Host prod\n    HostName 203.0.113.5\n    Port 2222\n    User anna\n{lines}"
        "    CertificateFile ~/.ssh/%h-cert.pub\n    IdentityAgent ~/agent-%r.sock\n"
        "    UserKnownHostsFile ~/.ssh/known_%h\n    ProxyJump %r@gate-%h\n",
    ).lookup("prod")
    assert found.keys[:5] == (
        home / ".ssh" / "key_203.0.113.5",
        home / ".ssh" / "prod-2222",
        home / "keys" / "anna",
        Path("%/%x"),
        Path("${UNSET_KEYS}/a"),
    )
    assert found.keys[5].name == f"{socket.gethostname().partition('.')[0]}_{getpass.getuser()}"
    assert found.certificates == (home / ".ssh" / "203.0.113.5-cert.pub",)
    assert found.agent == str(home / "agent-anna.sock")
    assert found.known_hosts[0] == home / ".ssh" / "known_203.0.113.5"
    assert found.jumps == ("anna@gate-203.0.113.5",)


@pytest.mark.parametrize(
    ("user", "default", "expected"), [(None, "root", "root"), ("ops", "root", "ops"), (None, None, None)]
)
def test_user_token_in_a_key_file_name_is_the_login(
    home: Path, user: str | None, default: str | None, expected: str | None
) -> None:
    read = config(home, "Host *\n    IdentityFile ~/.ssh/%r\n")
    found = read.lookup("h", user=user, default_user=default)
    assert found.keys == (home / ".ssh" / (expected or getpass.getuser()),)


def test_identity_file_none_disables_key_files(home: Path) -> None:
    (home / ".ssh" / "id_rsa").touch()
    assert config(home, "Host *\n    IdentityFile none\n").lookup("h").keys == ()
    assert config(home, "Host *\n    IdentityFile ~/.ssh/id_dsa\n").lookup("h").keys == (
        home / ".ssh" / "id_dsa",
    )


def test_match_exec_command_that_hangs_is_reported(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh_config, "_TIMEOUT_S", 0.5)
    read = config(home, 'Match exec "sleep 5"\n    Port 2201\n')
    with pytest.raises(ConnectError, match="took longer than") as caught:
        read.lookup("h")
    assert "`Match exec`" in caught.value.advice


def test_include_and_match_are_honoured(home: Path) -> None:
    read = config(
        home,
        "Include more.conf ~/.ssh/absent*.conf\nMatch user ops\n    Port 2201\n"
        'Match exec "test %h = h2"\n    Port 2202\nHost *\n    Port 2203\n',
        more="Host inner\n    Include deep.conf\n    User included\nHost *\n    ConnectTimeout 3\n",
        deep="HostName 198.51.100.1\n",
    )
    assert (read.lookup("inner").address, read.lookup("inner").user) == ("198.51.100.1", "included")
    assert (read.lookup("h").address, read.lookup("h").port) == ("h", 2203)
    assert read.lookup("h", user="ops").port == 2201
    assert read.lookup("h2").port == 2202


@pytest.mark.parametrize(
    ("value", "expected"),
    [("none", None), ("SSH_AUTH_SOCK", "/run/a"), ("$MY_AGENT", "/run/b"), ("/run/c", "/run/c")],
)
def test_identity_agent_is_read_from_the_file(
    home: Path, monkeypatch: pytest.MonkeyPatch, value: str, expected: str | None
) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/a")
    monkeypatch.setenv("MY_AGENT", "/run/b")
    assert config(home, f"Host *\n    IdentityAgent {value}\n").lookup("h").agent == expected
    assert config(home, "").lookup("h").agent == "/run/a"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("Host a\n    NoSuchThing yes\n", "config:2: "),
        ("Host a\n\n    Port many\n", "config:3: "),
        ("Match nonsense x\n    Port 1\n", "config"),
        ("Host a\n    Include more.conf\n", "more.conf:1: "),
    ],
)
def test_setting_refused_by_ssh_is_reported_with_file_and_line(home: Path, text: str, place: str) -> None:
    read = config(home, text, more="Also wrong\n")
    with pytest.raises(ConnectError) as caught:
        read.lookup("a")
    assert f"{home}/.ssh/{place}" in caught.value.message, caught.value.message
    assert "/tmp/clawd-ssh-config" not in caught.value.message


def test_config_without_ssh_installed_is_an_error(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(home))
    with pytest.raises(ToolError, match="config: `ssh` is not installed"):
        config(home, "Host a\n").lookup("a")
    assert SshConfig(home / "missing").lookup("a").address == "a"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gate", (None, "gate", None)),
        ("anna@gate:2200", ("anna", "gate", 2200)),
        ("anna@[2001:db8::1]:2200", ("anna", "2001:db8::1", 2200)),
        ("2001:db8::1", (None, "2001:db8::1", None)),
        ("ssh://a@b@gate:22/", ("a@b", "gate", 22)),
    ],
)
def test_proxy_jump_is_parsed_into_hops(text: str, expected: tuple[str | None, str, int | None]) -> None:
    assert jump_of(text) == expected


def test_host_name_that_looks_like_an_option_is_refused(home: Path) -> None:
    with pytest.raises(ConnectError, match="invalid characters"):
        config(home, "Host *\n    User anna\n").lookup("-oProxyCommand=touch pwned")
    assert not Path("pwned").exists()
