"""The command line as a person meets it: run as a program."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def cli(*words: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "cli.py"), *words],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **environment},
        timeout=60,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def inventory(folder: Path, text: str = "", address: str = "127.0.0.1", port: int = 9) -> Path:
    file = folder / "inventory" / "prod.yml"
    file.parent.mkdir(exist_ok=True)
    host_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1TrMRtPh1G1NTgXxV9ywGfrfDRKpbHaCfmTyLZCqzm"
    file.write_text(
        text
        or f"""hosts:
  one: {{address: {address}, port: {port}, host_key: {host_key}}}
models:
  default: {{engine: openai-compatible, endpoint: "https://models.example.com/v1"}}
channels:
  console: {{jwt_secret: !env JWT_SECRET}}
"""
    )
    return file


def test_help_has_examples_and_is_instant() -> None:
    started = time.monotonic()
    done = cli("--help")
    assert done.returncode == 0
    assert "clawd-provision up -i sandbox" in done.stdout
    assert time.monotonic() - started < 1


def test_a_wrong_option_is_not_taken_for_pending_changes() -> None:
    done = cli("plan", "--inventroy", "prod")
    assert done.returncode == 1
    assert "--inventory" in done.stderr


def test_an_unknown_inventory_names_those_that_exist(tmp_path: Path) -> None:
    inventory(tmp_path)
    done = cli("plan", "-i", "prd", cwd=tmp_path)
    assert done.returncode == 1
    assert "prod" in done.stderr
    assert "Traceback" not in done.stderr


def test_mistakes_come_all_at_once_with_their_place(tmp_path: Path) -> None:
    inventory(tmp_path, "hosts:\n  one: {adress: h.example, port: 70000}\nmodels: {}\n")
    done = cli("up", "-i", "prod", cwd=tmp_path)
    assert done.returncode == 1
    assert "prod.yml:2:9: " in done.stderr
    assert "address" in done.stderr
    assert "prod.yml:2:34: " in done.stderr
    assert "prod.yml:3:1: " in done.stderr


def test_an_unknown_component_or_host_is_refused_before_any_connection(tmp_path: Path) -> None:
    inventory(tmp_path)
    secret = "x" * 40
    for option, value, near in (("--tags", "ngnix", "nginx"), ("--limit", "onne", "one")):
        done = cli("up", "-i", "prod", option, value, cwd=tmp_path, JWT_SECRET=secret)
        assert done.returncode == 1
        assert f"did you mean {near}?" in done.stderr
        assert secret not in done.stderr


def test_a_host_that_is_not_there_is_told_as_such(tmp_path: Path) -> None:
    inventory(tmp_path)
    done = cli("plan", "-i", "prod", cwd=tmp_path, JWT_SECRET="x" * 40)
    assert done.returncode == 1
    assert "one (root@127.0.0.1:9): cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr


def test_check_shows_what_every_host_gets(tmp_path: Path) -> None:
    inventory(tmp_path)
    done = cli("inventory", "check", "-i", "prod", cwd=tmp_path, JWT_SECRET="x" * 40)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("one: base, hardening, firewall, tls")


def test_the_schema_is_json() -> None:
    done = cli("inventory", "schema")
    assert json.loads(done.stdout)["properties"]["hosts"]


def test_up_without_anybody_to_ask_changes_nothing(tmp_path: Path) -> None:
    done = cli("up", "-i", str(inventory(tmp_path)), cwd=tmp_path)
    assert done.returncode == 1
    assert "JWT_SECRET" in done.stderr


@pytest.mark.parametrize("command", ["up", "plan", "drift", "verify", "history"])
def test_every_command_about_hosts_has_help(command: str) -> None:
    done = cli(command, "--help")
    assert done.returncode == 0
    assert "--limit" in done.stdout


def test_removing_a_component_that_there_is_not_is_told_before_any_host_is_reached(tmp_path: Path) -> None:
    done = cli("remove", "-i", str(inventory(tmp_path)), "--tags", "ngnix", cwd=tmp_path, JWT_SECRET="x" * 40)
    assert done.returncode == 1
    assert "--tags ngnix: there is no such component" in done.stderr
    assert "did you mean nginx?" in done.stderr
    assert "cannot be reached" not in done.stderr
