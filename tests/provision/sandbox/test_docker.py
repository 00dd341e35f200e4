from __future__ import annotations

import json

from provision.sandbox import docker
from provision.sandbox.host import HostState
from provision.sandbox.layout import Layout


def test_containers_have_the_same_names_and_addresses_as_with_nspawn(layout: Layout) -> None:
    command = " ".join(docker.create_command(layout, "bot2", "trixie-0123"))
    assert "--name clawdt-bot2 --hostname bot2 --network clawdt --ip 10.213.78.12" in command
    assert "clawd-sandbox:trixie-0123 /bin/sh -c" in command


def test_containers_are_not_privileged(layout: Layout) -> None:
    command = docker.create_command(layout, "bot1", "bookworm-0")
    assert "--privileged" not in command
    assert command[command.index("--cgroupns") + 1] == "private"
    assert not any(argument.startswith(("/sys", "/var/run/docker.sock")) for argument in command)


def test_the_network_has_the_sandboxs_subnet(layout: Layout) -> None:
    command = docker.network_command(layout)
    assert command[command.index("--subnet") + 1] == "10.213.78.0/24"
    assert command[command.index("--gateway") + 1] == "10.213.78.1"
    assert command[-1] == "clawdt"


def test_state_is_read_from_inspect() -> None:
    running = json.dumps([{"State": {"Running": True, "Pid": 41}}])
    stopped = json.dumps([{"State": {"Running": False, "Pid": 0}}])
    assert docker.state_of(running) == (HostState.RUNNING, 41)
    assert docker.state_of(stopped) == (HostState.STOPPED, None)
