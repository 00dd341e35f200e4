from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence

import pytest

from inventory.errors import SandboxError
from provision.sandbox.hosts import docker
from provision.sandbox.hosts.host import HostState
from provision.sandbox.layout import Layout


def test_containers_have_names_and_addresses_as_with_nspawn(layout: Layout) -> None:
    command = " ".join(docker.create_command(layout, "bot2", "trixie-0123"))
    assert "--name clawdt-bot2 --hostname bot2 " in command
    assert " --network clawdt --ip 10.213.78.12 " in command
    assert "clawd-sandbox:trixie-0123 /bin/sh -c" in command


def test_containers_are_not_privileged(layout: Layout) -> None:
    command = docker.create_command(layout, "bot1", "bookworm-0")
    assert "--privileged" not in command
    assert command[command.index("--cgroupns") + 1] == "private"
    assert not any(argument.startswith(("/sys", "/var/run/docker.sock")) for argument in command)


def test_network_has_the_subnet_of_the_sandbox(layout: Layout) -> None:
    command = docker.network_command(layout)
    assert command[command.index("--subnet") + 1] == "10.213.78.0/24"
    assert command[command.index("--gateway") + 1] == "10.213.78.1"
    assert command[-1] == "clawdt"


def test_state_is_read_from_inspect() -> None:
    running = json.dumps([{"State": {"Running": True, "Pid": 41}}])
    stopped = json.dumps([{"State": {"Running": False, "Pid": 0}}])
    assert docker.state_of(running) == (HostState.RUNNING, 41)
    assert docker.state_of(stopped) == (HostState.STOPPED, None)


class Engine:
    """What a Docker engine answers, and the commands that it got."""

    def __init__(self, **inspected: object) -> None:
        self.inspected = inspected
        self.listed = {"ps": "c1 c2", "network": "n1", "images": "i1"}
        self.commands: list[str] = []

    def __call__(
        self, command: Sequence[str], *, check: bool = True, **_: object
    ) -> subprocess.CompletedProcess[str]:
        line = " ".join(command)
        if "inspect" in command:
            found = self.inspected.get(command[1])
            return subprocess.CompletedProcess(command, 0 if found else 1, json.dumps([found]), "")
        if "--filter" in command:
            assert command[-1] == f"label={docker.LABEL}={self.folder}"
            return subprocess.CompletedProcess(command, 0, self.listed[command[1]], "")
        self.commands.append(line)
        return subprocess.CompletedProcess(command, 0, "", "")

    folder = ""


@pytest.fixture
def engine(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> Engine:
    engine = Engine()
    engine.folder = str(layout.folder)
    monkeypatch.setattr(docker, "run", engine)
    monkeypatch.setattr(docker, "read_machine", lambda _: None)
    return engine


def test_networks_and_containers_are_labelled_with_the_sandbox_folder(layout: Layout) -> None:
    label = f"{docker.LABEL}={layout.folder}"
    for command in (docker.network_command(layout), docker.create_command(layout, "bot1", "trixie-0")):
        assert command[command.index("--label") + 1] == label


@pytest.mark.parametrize("labels", [None, {}, {docker.LABEL: "/somewhere/else"}])
def test_foreign_networks_and_containers_are_neither_used_nor_removed(
    labels: dict[str, str] | None, layout: Layout, engine: Engine
) -> None:
    engine.inspected = {"network": {"Labels": labels}, "container": {"Config": {"Labels": labels}}}
    box = docker.DockerBackend(layout)
    with pytest.raises(SandboxError, match="Docker already has a network clawdt"):
        box.prepare()
    for act in (box.state, box.stop, box.remove):
        with pytest.raises(SandboxError, match="Docker already has a container clawdt-bot1"):
            act("bot1")
    assert engine.commands == []


def test_own_network_and_containers_are_used_again(layout: Layout, engine: Engine) -> None:
    labels = {docker.LABEL: str(layout.folder)}
    state = {"Running": True, "Pid": 41}
    engine.inspected = {
        "network": {"Labels": labels},
        "container": {"Config": {"Labels": labels}, "State": state},
    }
    box = docker.DockerBackend(layout)
    box.prepare()
    assert engine.commands == []
    assert box.state("bot1") == (HostState.RUNNING, 41)
    box.remove("bot1")
    assert engine.commands == ["docker rm --force clawdt-bot1"]


def test_cleanup_removes_everything_with_the_label(layout: Layout, engine: Engine) -> None:
    docker.DockerBackend(layout).cleanup()
    assert engine.commands == [
        "docker rm --force c1",
        "docker rm --force c2",
        "docker network rm n1",
        "docker image rm i1",
    ]
