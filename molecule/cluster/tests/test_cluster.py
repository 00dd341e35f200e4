"""Two bots behind a load balancer: they share conversations, and one of them may be down."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "shared"))
import program

ADDRESSES = {name: f"10.213.178.{number}" for number, name in enumerate(("bot1", "bot2", "web1", "db1"), 11)}
REACHED = {"bot1": {22}, "bot2": {22}, "web1": {22, 80, 443}, "db1": {22}}
SERVICES = {
    "bot1": ("clawd-engine", "clawd-bot", "prometheus-node-exporter"),
    "bot2": ("clawd-engine", "clawd-bot", "prometheus-node-exporter"),
    "web1": ("nginx", "prometheus", "prometheus-alertmanager", "prometheus-node-exporter"),
    "db1": ("postgresql", "prometheus-node-exporter"),
}


def test_every_check_of_the_program_holds() -> None:
    assert program.failed_checks() == []


def test_services_run(host: Any) -> None:
    name = name_of(host)
    assert [service for service in SERVICES[name] if not host.service(service).is_running] == []


def test_only_declared_ports_can_be_reached_from_outside(host: Any) -> None:
    name = name_of(host)
    ports = {
        int(entry.rsplit(":", 1)[1])
        for entry in host.socket.get_listening_sockets()
        if entry.startswith("tcp")
    }
    assert {port for port in sorted(ports) if reached(ADDRESSES[name], port)} == REACHED[name]


def test_a_conversation_is_kept_in_the_database(host: Any) -> None:
    if name_of(host) != "db1":
        pytest.skip("asked of the database's host")
    word = "antidisestablishmentarianism"
    program.ask(f"Repeat the word {word}.", "kept")
    dumped = host.check_output("cd / && runuser -u postgres -- pg_dump clawd")
    assert word in dumped


def test_people_are_answered_while_one_bot_is_away(host: Any) -> None:
    name = name_of(host)
    if not name.startswith("bot"):
        pytest.skip("only bots")
    host.run("systemctl stop clawd-bot")
    try:
        for number in range(3):
            assert "Paris" in program.ask("What is the capital of France?", f"{name}-away-{number}")
    finally:
        host.run("systemctl start clawd-bot")


def test_prometheus_watches_every_host(host: Any) -> None:
    if name_of(host) != "web1":
        pytest.skip("asked of the monitoring host")
    asked = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9090/api/v1/query?query=up').read().decode())"
    found = json.loads(host.check_output("python3 -c %s", asked))
    up = {
        (series["metric"]["job"], series["metric"]["instance"]): series["value"][1]
        for series in found["data"]["result"]
    }
    assert len(up) >= 8, up
    assert set(up.values()) == {"1"}, up


def name_of(host: Any) -> str:
    name: str = host.backend.host.name
    return name


def reached(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=1).close()
    except OSError:
        return False
    return True
