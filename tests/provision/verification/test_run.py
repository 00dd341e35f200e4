"""Checks in a process of their own, over one connection to a real SSH server."""

from __future__ import annotations

import ast
import io
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest
from rich.console import Console

from deploys.component import Component, ComponentSettings
from inventory.load import LoadedInventory
from inventory.model import Inventory
from provision.assignment import Assignment
from provision.reporting.display import show_verification
from provision.verification import run as checks
from tests.provision.ssh_servers import Server, serving

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
GREET = """
def test_the_host_says_{}(host):
    assert host.run("echo hello").stdout == "{}\\n"
"""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    key = paramiko.ECDSAKey.generate()
    key.write_private_key_file(str(tmp_path / "key"))
    opened = Server(key)
    with serving(opened):
        yield opened


@pytest.fixture
def deploys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of components, none yet; checks find our packages as they do when installed."""
    folder = tmp_path / "installed" / "deploys"
    monkeypatch.setattr(checks, "DEPLOYS", folder)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return folder


def test_verify_without_gevent_patching_fails_at_once() -> None:
    words = [sys.executable, "-c", "from provision.verification.run import verify; verify(None, {})"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert "RuntimeError: call provision.local.concurrency.enable() before anything else" in done.stderr


def write_checks(deploys: Path, component: str, text: str) -> None:
    (deploys / component).mkdir(parents=True)
    (deploys / component / "verify.py").write_text(text)


def verify(
    folder: Path,
    port: int,
    host_key: str | None,
    *components: str,
    hosts: tuple[str, ...] = ("one",),
    **others: tuple[str, ...],
) -> checks.Verification:
    """Verifies `components` on `hosts`; on one that is named in `others`, these."""
    host = {"address": "127.0.0.1", "port": port, "ssh_key": str(folder / "key"), "host_key": host_key}
    models = {"default": {"engine": "openai-compatible", "endpoint": "https://models.example.com/v1"}}
    inventory = Inventory.model_validate({"hosts": dict.fromkeys(hosts, host), "models": models})
    loaded = LoadedInventory(inventory, folder / "inventory.yml")
    assigned = {
        name: [Assignment(Component(item, ""), ComponentSettings()) for item in others.get(name, components)]
        for name in hosts
    }
    return checks.verify(loaded, assigned)


def test_verify_reports_passed_and_failed_checks(
    server: Server, deploys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checks(deploys, "greet", GREET.format("hello", "hello") + GREET.format("nonsense", "nonsense"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("pytest", "testinfra", "provision"):
        (elsewhere / f"{name}.py").write_text("raise SystemExit('a file of the current folder was run')")
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("PYTEST_ADDOPTS", "--collect-only")
    done = verify(tmp_path, server.port, server.public_key, "greet")
    assert [(check.component, check.name, check.outcome) for check in done.checks] == [
        ("greet", "the host says hello", "passed"),
        ("greet", "the host says nonsense", "failed"),
    ]
    assert server.logins == ["root"]


def test_host_without_checks_starts_no_process(
    server: Server, deploys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("no process is needed"))
    assert verify(tmp_path, server.port, server.public_key, "unchecked").checks == ()
    assert server.logins == []


def test_unreachable_host_is_one_failed_check(deploys: Path, tmp_path: Path) -> None:
    write_checks(deploys, "greet", GREET.format("one", 1) + GREET.format("two", 2))
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    (check,) = verify(tmp_path, port, None, "greet").checks
    assert (check.host, check.component, check.name) == ("one", "connection", "reachable")
    assert check.outcome == "failed"
    assert f"one (root@127.0.0.1:{port}): cannot be reached" in check.message
    assert "firewall" in check.hint


def test_hosts_are_checked_concurrently_and_reported_in_inventory_order(
    server: Server, deploys: Path, tmp_path: Path
) -> None:
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    # Each waits for the other: one after the other they would never meet.
    write_checks(
        deploys,
        "greet",
        f"""
def test_meets(host):
    waiting = "for _ in $(seq 100); do [ $(ls {meeting} | wc -l) = 2 ] && exit 0; sleep 0.1; done; exit 1"
    assert host.run("mktemp -p {meeting}; " + waiting).rc == 0
""",
    )
    done = verify(tmp_path, server.port, server.public_key, "greet", hosts=("two", "one"))
    assert [(check.host, check.outcome) for check in done.checks] == [("two", "passed"), ("one", "passed")]
    assert server.logins == ["root", "root"]


def test_checks_that_cannot_be_imported_fail_only_for_their_host(
    server: Server, deploys: Path, tmp_path: Path
) -> None:
    write_checks(deploys, "greet", GREET.format("hello", "hello"))
    write_checks(deploys, "broken", "import no_such_module\n")
    done = verify(tmp_path, server.port, server.public_key, "greet", hosts=("one", "two"), two=("broken",))
    assert [(check.host, check.component, check.outcome) for check in done.checks] == [
        ("one", "greet", "passed"),
        ("two", "checks", "error"),
    ]
    assert "no_such_module" in done.failed[0].message


def test_host_with_unknown_key_is_reported(server: Server, deploys: Path, tmp_path: Path) -> None:
    write_checks(deploys, "greet", GREET.format("one", 1))
    (check,) = verify(tmp_path, server.port, None, "greet").checks
    assert "its host key is not known" in check.message
    assert "ssh-keyscan" in check.hint
    other = paramiko.ECDSAKey.generate()
    (check,) = verify(tmp_path, server.port, f"{other.get_name()} {other.get_base64()}", "greet").checks
    assert "another host key" in check.message
    assert server.logins == []


SAYS = """
from deploys.ops.checks import expect


def test_says_what_is_wrong(host):
    expect(host.run("echo one").stdout == "two\\n", "nginx.service is masked", "run `up`")


def test_command_fails(host):
    host.check_output("ls %s", "/no/such/folder")


def test_is_an_error():
    {}["missing"]


def test_without_a_word():
    value = 1
    assert value == 2
"""


def test_failed_check_has_problem_and_hint_without_pytest_output(
    server: Server, deploys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checks(deploys, "greet", SAYS)
    # Optimized, Python would leave assertions out.
    monkeypatch.setenv("PYTHONOPTIMIZE", "1")
    done = verify(tmp_path, server.port, server.public_key, "greet")
    found = {check.name: check for check in done.failed}
    assert set(found) == {"says what is wrong", "command fails", "is an error", "without a word"}
    said = found["says what is wrong"]
    assert (said.host, said.component, said.message, said.hint) == (
        "one",
        "greet",
        "nginx.service is masked",
        "run `up`",
    )
    failing = found["command fails"]
    assert failing.message.startswith("`ls %s` failed on the host: ls: cannot access '/no/such/folder'")
    assert found["is an error"].outcome == "error"
    assert found["is an error"].message == "the check could not be completed: 'missing'"
    for check in done.failed:
        assert check.hint
        for internal in ("assert ", "where ", "CommandResult", "site-packages", "Error"):
            assert internal not in check.message.replace("AssertionError", "")
    screen = io.StringIO()
    show_verification(Console(file=screen, width=200), done)
    assert (
        "one: greet: says what is wrong\n    nginx.service is masked\n    hint: run `up`\n"
        in screen.getvalue()
    )
    checks = {check["name"]: check for check in done.to_json()["checks"]}
    assert checks["says what is wrong"]["message"] == "nginx.service is masked"
    assert checks["says what is wrong"]["hint"] == "run `up`"


def test_every_check_uses_expect_with_a_problem() -> None:
    modules = sorted((ROOT / "deploys").glob("*/verify.py"))
    assert len(modules) >= 19
    for module in modules:
        for node in ast.walk(ast.parse(module.read_text())):
            assert not isinstance(node, ast.Assert), f"{module}:{node.lineno}: use `expect`, with words"
