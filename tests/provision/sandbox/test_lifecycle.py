from __future__ import annotations

import os
import subprocess

import pytest

from inventory.errors import SandboxError
from provision import sandbox
from provision.sandbox import claims, commands, lifecycle
from provision.sandbox.commands import silent
from provision.sandbox.hosts import docker, nspawn
from provision.sandbox.hosts.backend import choose
from provision.sandbox.hosts.host import HostRecord, HostState, SandboxHost, write_record
from provision.sandbox.layout import Layout

RECORD = HostRecord("bot1", "10.213.78.11", "trixie", "nspawn", "trixie-0", "ssh-ed25519 AAAAkey root@bot1")


def make(layout: Layout, record: HostRecord = RECORD) -> None:
    (layout.host(record.name) / "root").mkdir(parents=True)
    write_record(layout.host(record.name), record)


def test_package_exports_existing_names() -> None:
    assert set(sandbox.__all__) == {name for name in sandbox.__all__ if hasattr(sandbox, name)}
    assert {"up", "down", "status", "ssh_command", "SandboxHost", "Layout"} <= set(sandbox.__all__)


def test_status_without_sandbox_is_empty_and_creates_nothing(layout: Layout) -> None:
    assert sandbox.status(layout=layout) == ()
    assert not layout.folder.exists()


def test_status_shows_a_stopped_host(layout: Layout) -> None:
    make(layout)
    assert sandbox.status(layout=layout) == (
        SandboxHost("bot1", "10.213.78.11", "trixie", "nspawn", HostState.STOPPED, None),
    )


def test_ssh_command_uses_only_known_hosts_of_the_sandbox(layout: Layout) -> None:
    make(layout)
    command = sandbox.ssh_command("bot1", layout=layout)
    assert command[-1] == "operator@10.213.78.11"
    assert "StrictHostKeyChecking=yes" in command
    assert f"UserKnownHostsFile={layout.known_hosts}" in command
    layout.key.touch()
    # ssh itself must understand the line.
    parsed = subprocess.run(
        [command[0], "-G", *command[1:]], capture_output=True, text=True, check=True
    ).stdout
    assert "stricthostkeychecking true" in parsed
    assert f"identityfile {layout.key}" in parsed


def test_ssh_to_an_unknown_host_lists_existing_ones(layout: Layout) -> None:
    make(layout)
    with pytest.raises(SandboxError, match="no sandbox host bot2; existing hosts: bot1"):
        sandbox.ssh_command("bot2", layout=layout)


def test_known_hosts_line_has_name_and_address() -> None:
    assert lifecycle.known_hosts_line(RECORD) == "bot1,10.213.78.11 ssh-ed25519 AAAAkey\n"


@pytest.mark.parametrize("act", [sandbox.up, sandbox.down])
def test_commands_without_root_change_nothing(
    act: object, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert callable(act)
    with pytest.raises(SandboxError, match="sudo"):
        act(layout=layout)
    assert not layout.folder.exists()


@pytest.mark.parametrize("hosts", [0, -1, 100])
def test_invalid_number_of_hosts_is_refused(hosts: int, layout: Layout) -> None:
    with pytest.raises(SandboxError, match="1 to 99"):
        sandbox.up(hosts, layout=layout)


@pytest.mark.parametrize(
    ("missing", "engine", "expected"),
    [
        ((), True, "nspawn"),
        (("systemd-nspawn",), True, "docker"),
        (("systemd-nspawn", "mmdebstrap", "zstd"), True, "docker"),
        (("systemd-nspawn", "mmdebstrap"), False, "nspawn"),
        (("mmdebstrap",), True, "nspawn"),
    ],
)
def test_docker_is_chosen_only_without_nspawn(
    missing: tuple[str, ...], engine: bool, expected: str, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed: list[str] = []
    monkeypatch.setattr("provision.sandbox.hosts.backend.missing_tools", lambda: missing)
    monkeypatch.setattr(
        "provision.sandbox.hosts.backend.ensure_tools",
        lambda progress, tools=commands.PACKAGES: installed.extend(set(missing) & set(tools)),
    )
    monkeypatch.setattr(docker, "engine_answers", lambda: engine)
    assert choose(layout, silent).name == expected
    assert sorted(installed) == sorted(set(missing) - ({"systemd-nspawn"} if expected == "docker" else set()))


@pytest.mark.parametrize(("asked", "expected"), [((), "trixie"), (("bookworm",), "bookworm")])
def test_host_keeps_its_release_unless_another_is_requested(
    asked: tuple[str, ...], expected: str, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(layout)
    seen: list[str] = []
    monkeypatch.setattr(claims, "FOLDER", layout.folder / "run")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("provision.sandbox.hosts.backend.choose", lambda *_: nspawn.NspawnBackend(layout))
    monkeypatch.setattr(nspawn.NspawnBackend, "prepare", lambda _: None)
    monkeypatch.setattr(lifecycle, "_wait_for_ssh", lambda *_: None)
    monkeypatch.setattr(
        lifecycle, "_ensure_started", lambda backend, layout, new, *_: seen.append(new.release)
    )
    sandbox.up(2, asked, layout=layout)
    assert seen == [expected, "bookworm"]
