"""One host: its public services work, and nothing else is reachable."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "shared"))
import program

ADDRESS = "10.213.118.11"


def test_every_check_of_the_program_holds() -> None:
    assert program.failed_checks() == []


def test_the_bot_answers_by_the_model() -> None:
    assert "Paris" in program.ask("What is the capital of France?", "molecule")


@pytest.mark.parametrize("service", ["clawd-engine", "clawd-bot", "nginx", "ssh"])
def test_services_run_now_and_after_a_boot(host: Any, service: str) -> None:
    assert host.service(service).is_running
    assert host.service(service).is_enabled


def test_only_declared_ports_can_be_reached(host: Any) -> None:
    listening = {
        int(entry.rsplit(":", 1)[1]) for entry in host.socket.get_listening_sockets() if "tcp" in entry
    }
    assert {22, 80, 443, 8080, 8090} <= listening
    assert {port for port in sorted(listening) if reached(port)} == {22, 80, 443}


def test_nothing_failed_at_boot(host: Any) -> None:
    assert host.run("systemctl --failed --no-legend --plain").stdout == ""


def reached(port: int) -> bool:
    try:
        socket.create_connection((ADDRESS, port), timeout=2).close()
    except OSError:
        return False
    return True
