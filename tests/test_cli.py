"""The command line as a person meets it: run as a program."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

import cli as program
from inventory.errors import ConnectError, LockHeldError
from provision import pipeline
from provision.console_link import PageLink
from provision.local import concurrency
from provision.plan import HostPlan, Plan, PlannedOperation
from provision.run import Exit, Outcome, Run
from provision.sandbox.hosts.host import HostRecord, write_record
from tests import preloading

ROOT = Path(__file__).resolve().parent.parent


def cli(
    *words: str, cwd: Path = ROOT, typed: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        preloading.command_line(*words),
        cwd=cwd, env={**os.environ, **environment}, input=typed,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


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


def test_help_imports_nothing_that_only_runs_need() -> None:
    heavy = {"gevent", "paramiko", "pydantic", "pyinfra", "ruamel", "httpx", "inventory.model"}
    code = (
        "import contextlib, sys, cli; sys.argv = ['clawd-provision', '--help']\n"
        "with contextlib.suppress(SystemExit): cli.main()\n"
        "print('imported', *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "clawd-provision up -i sandbox" in done.stdout
    imported = set(done.stdout.rpartition("imported ")[2].split())
    assert "click" in imported
    assert not imported & heavy


def test_help_has_examples() -> None:
    done = cli("--help")
    assert done.returncode == 0
    assert "clawd-provision up -i sandbox" in done.stdout


def test_unknown_option_exits_with_1_and_not_with_the_code_of_pending_changes() -> None:
    done = cli("plan", "--inventroy", "prod")
    assert done.returncode == 1
    assert "--inventory" in done.stderr


def test_missing_inventory_option_is_refused_with_what_to_pass(tmp_path: Path) -> None:
    done = cli("plan", cwd=tmp_path)
    assert done.returncode == 1
    assert "Missing option '--inventory' / '-i'. There is none yet: write inventory/NAME.yml" in done.stderr
    inventory(tmp_path)
    done = cli("plan", cwd=tmp_path)
    assert "Missing option '--inventory' / '-i'. Pass one of: -i prod" in done.stderr


def test_unknown_inventory_is_refused_with_the_names_of_existing_ones(tmp_path: Path) -> None:
    inventory(tmp_path)
    done = cli("plan", "-i", "prd", cwd=tmp_path)
    assert done.returncode == 1
    assert "prod" in done.stderr
    assert "Traceback" not in done.stderr


def test_all_mistakes_of_an_inventory_are_reported_at_once_with_line_and_column(tmp_path: Path) -> None:
    inventory(tmp_path, "hosts:\n  one: {adress: h.example, port: 70000}\nmodels: {}\n")
    done = cli("up", "-i", "prod", cwd=tmp_path)
    assert done.returncode == 1
    assert "prod.yml:2:9: " in done.stderr
    assert "address" in done.stderr
    assert "prod.yml:2:34: " in done.stderr
    assert "prod.yml:3:1: " in done.stderr


@pytest.mark.parametrize("command", ["up", "plan", "drift", "verify", "remove"])
@pytest.mark.parametrize(
    ("option", "value", "near"),
    [("--tags", "ngnix", "nginx"), ("--limit", "onne", "one")],
    ids=["tag", "host"],
)
def test_unknown_component_or_host_is_refused_before_connecting(
    tmp_path: Path, command: str, option: str, value: str, near: str
) -> None:
    inventory(tmp_path)
    secret = "x" * 40
    done = cli(command, "-i", "prod", option, value, cwd=tmp_path, JWT_SECRET=secret)
    assert done.returncode == 1
    assert f"{option} {value}: unknown " in done.stderr
    assert f"did you mean {near}?" in done.stderr
    assert "cannot be reached" not in done.stderr
    assert secret not in done.stderr


@pytest.mark.parametrize("option", ["--limit", "--tags"])
@pytest.mark.parametrize("value", ["", ","])
def test_empty_limit_or_tags_is_refused_and_does_not_select_everything(
    tmp_path: Path, option: str, value: str
) -> None:
    """As a script gives it whose variable is not set."""
    inventory(tmp_path)
    done = cli("remove", "-y", "-i", "prod", option, value, cwd=tmp_path, JWT_SECRET="x" * 40)
    assert done.returncode == 1
    assert f"{option} has no value" in done.stderr
    assert "cannot be reached" not in done.stderr


def test_unreachable_host_is_reported_without_traceback(tmp_path: Path) -> None:
    inventory(tmp_path)
    done = cli("plan", "-i", "prod", cwd=tmp_path, JWT_SECRET="x" * 40)
    assert done.returncode == 1
    assert "one (root@127.0.0.1:9): cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr


def test_inventory_check_prints_components_of_every_host(tmp_path: Path) -> None:
    inventory(tmp_path)
    done = cli("inventory", "check", "-i", "prod", cwd=tmp_path, JWT_SECRET="x" * 40)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("one: base, hardening, firewall, tls")


def test_inventory_check_warns_of_a_prompt_that_might_exceed_the_context(tmp_path: Path) -> None:
    file = inventory(tmp_path)
    file.write_text(f"{file.read_text()}bot: {{max_reply_tokens: 400, system_prompt: {'团队助手' * 300}}}\n")
    file.write_text(file.read_text().replace('example.com/v1"', 'example.com/v1", context_size: 4096'))
    done = cli("inventory", "check", "-i", "prod", cwd=tmp_path, JWT_SECRET="x" * 40)
    assert done.returncode == 0, done.stderr
    assert "warning: " in done.stderr
    assert "prod.yml:7:" in done.stderr
    assert "a system prompt of up to 3601 tokens" in done.stderr
    assert "might not fit a context of 4096\nhint: raise `models.default.context_size`" in done.stderr


def test_inventory_check_lists_overridden_templates(tmp_path: Path) -> None:
    inventory(tmp_path)
    own = tmp_path / "templates" / "nginx"
    own.mkdir(parents=True)
    (own / "nginx.conf").write_text("{{ max_body }}")
    (own / "ngnix.conf").write_text("")
    done = cli("inventory", "check", "-i", "prod", cwd=tmp_path, JWT_SECRET="x" * 40)
    assert done.returncode == 0, done.stderr
    assert f"template {own}/nginx.conf overrides the program's own" in done.stdout
    assert f"template {own}/ngnix.conf is not used: did you mean nginx/nginx.conf?" in done.stderr
    (own / "nginx.conf").write_text("\n{% if %}")
    done = cli("inventory", "check", "-i", "prod", cwd=tmp_path, JWT_SECRET="x" * 40)
    assert done.returncode == 1
    assert f"{own}/nginx.conf:2: the template cannot be read" in done.stderr


def test_inventory_schema_prints_json() -> None:
    done = cli("inventory", "schema")
    assert json.loads(done.stdout)["properties"]["hosts"]


CHANGE = Plan((HostPlan("one", (PlannedOperation("base", "Time zone", True),)),))


@pytest.fixture
def in_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs the program here, so that what it calls can be played; returns its exit code."""
    monkeypatch.chdir(inventory(tmp_path).parent.parent)
    monkeypatch.setenv("JWT_SECRET", "x" * 40)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    # What follows in this process is not gevent's.
    monkeypatch.setattr(concurrency, "enable", lambda: None)

    def run(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["clawd-provision", *words])
        with pytest.raises(SystemExit) as left:
            program.main()
        return int(left.value.code or 0)

    return run


def test_up_without_terminal_prints_the_plan_and_changes_nothing(
    in_process: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    applied: list[bool] = []

    def up(run: Run, confirm: Callable[[Plan], bool], *, verify: bool) -> Outcome:
        applied.append(confirm(CHANGE))
        return Outcome(Exit.DONE, CHANGE)

    monkeypatch.setattr(pipeline, "up", up)
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert in_process("up", "-i", "prod") == 1
    printed = capsys.readouterr()
    assert "Time zone" in printed.out
    assert "cannot confirm the plan: standard input is not a terminal" in printed.err
    assert "--yes" in printed.err
    assert applied == []
    assert in_process("up", "-i", "prod", "--yes") == 0
    assert applied == [True]


def test_held_lock_is_reported_in_json(
    in_process: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def held(*_: object, **__: object) -> Outcome:
        raise LockHeldError("one: ann@desk is applying", advice="wait for her run")

    monkeypatch.setattr(pipeline, "up", held)
    assert in_process("up", "-i", "prod", "--json") == 5
    captured = capsys.readouterr()
    printed = json.loads(captured.out)
    assert (printed["exit"], printed["error"]) == (5, "one: ann@desk is applying")
    assert (printed["advice"], printed["mistakes"]) == ("wait for her run", [])
    assert "ann@desk" in captured.err


def test_interruption_is_reported_in_json(
    in_process: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> Outcome:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "plan", interrupted)
    assert in_process("plan", "-i", "prod", "--json") == 130
    assert json.loads(capsys.readouterr().out)["exit"] == 130


def test_internal_error_is_reported_with_the_path_of_its_log(
    in_process: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def wrong(*_: object) -> Outcome:
        raise KeyError("unexpected key")

    monkeypatch.setattr(pipeline, "plan", wrong)
    assert in_process("plan", "-i", "prod", "--json") == 1
    captured = capsys.readouterr()
    assert "internal error (KeyError: 'unexpected key')" in json.loads(captured.out)["error"]
    (log,) = (tmp_path / "state").rglob("*.log")
    assert str(log) in captured.err
    assert "Traceback" in log.read_text()
    assert "Traceback" not in captured.err


def test_internal_error_outside_of_a_run_is_reported_with_the_path_of_its_log(
    in_process: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("inventory.json_schema.json_schema", lambda: dict[str, str]()["properties"])
    assert in_process("inventory", "schema") == 1
    (log,) = (tmp_path / "state").rglob("*.log")
    assert (
        f"internal error (KeyError: 'properties')\nhint: the details are in {log}" in capsys.readouterr().err
    )
    assert "Traceback" in log.read_text()


@pytest.mark.parametrize(
    ("words", "environment", "expected"),
    [
        (("plan", "-i", "prod"), {"XDG_STATE_HOME": "/proc"}, "set XDG_STATE_HOME"),
        (("inventory", "keygen", "--output", "/proc/foo/key"), {}, "/proc/foo"),
        (("sandbox", "up"), {"CLAWD_SANDBOX": "/proc/x"}, "/proc/x" if os.geteuid() == 0 else "sudo"),
    ],
)
def test_errors_of_this_machine_are_reported_without_traceback(
    words: tuple[str, ...], environment: dict[str, str], expected: str, tmp_path: Path
) -> None:
    inventory(tmp_path)
    environment = {"XDG_STATE_HOME": str(tmp_path), "JWT_SECRET": "x" * 40, **environment}
    done = cli(*words, cwd=tmp_path, **environment)
    assert done.returncode == 1
    assert expected in done.stderr
    assert "\nhint: " in done.stderr
    assert "Traceback" not in done.stderr
    assert "exception" not in done.stderr.lower()


def test_mistakes_are_reported_in_json_with_line_and_column(tmp_path: Path) -> None:
    file = inventory(tmp_path, "hosts:\n  one: {adress: h.example}\nmodels: {}\n")
    done = cli("up", "-i", "prod", "--json", cwd=tmp_path)
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert document["exit"] == 1
    named = {(wrong["line"], wrong["column"]): wrong for wrong in document["mistakes"]}
    wrong = named[2, 9]
    assert wrong.keys() == {"file", "line", "column", "message", "advice"}
    assert Path(wrong["file"]) == file.relative_to(tmp_path)
    assert "adress" in wrong["message"]
    assert "address" in wrong["advice"]


def test_unreachable_host_is_reported_in_json(tmp_path: Path) -> None:
    inventory(tmp_path)
    done = cli("plan", "-i", "prod", "--json", cwd=tmp_path, JWT_SECRET="x" * 40)
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert document["exit"] == 1
    assert "one (root@127.0.0.1:9): cannot be reached" in document["error"]
    assert document["advice"]


def test_inventory_with_a_mistake_connects_to_no_host(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        file = inventory(tmp_path, port=listener.getsockname()[1])
        right = file.read_text()
        file.write_text(f"{right}bots: {{}}\n")
        for command in ("up", "verify", "history"):
            done = cli(command, "-i", "prod", cwd=tmp_path, JWT_SECRET="x" * 40)
            assert "prod.yml:7:1: " in done.stderr
            with pytest.raises(BlockingIOError):
                listener.accept()
        file.write_text(right)
        listener.setblocking(True)
        listener.settimeout(30)
        reaching = threading.Thread(
            target=lambda: cli("plan", "-i", "prod", cwd=tmp_path, JWT_SECRET="x" * 40)
        )
        reaching.start()
        listener.accept()[0].close()
        reaching.join()


def test_sandbox_ssh_passes_options_of_the_remote_command_through(tmp_path: Path) -> None:
    box, tools = tmp_path / "box", tmp_path / "tools"
    (box / "hosts" / "bot1").mkdir(parents=True)
    write_record(
        box / "hosts" / "bot1",
        HostRecord("bot1", "192.0.2.11", "trixie", "nspawn", "trixie-0", "ssh-ed25519 AAAA root@bot1"),
    )
    tools.mkdir()
    (tools / "ssh").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tools / "ssh").chmod(0o755)
    path = f"{tools}:{os.environ['PATH']}"
    for words in (("df", "-h"), ("ls", "--help"), ("journalctl", "-u", "clawd-bot")):
        done = cli("sandbox", "ssh", "bot1", *words, CLAWD_SANDBOX=str(box), PATH=path)
        assert done.returncode == 0, done.stderr
        assert tuple(done.stdout.splitlines()[-len(words) :]) == words
    assert "Log in to a host" in cli("sandbox", "ssh", "--help").stdout


@pytest.mark.parametrize("typed", ["", "\n", "  \n"])
def test_encrypt_refuses_empty_standard_input(typed: str) -> None:
    done = cli("inventory", "encrypt", "--recipient", "age1" + "q" * 58, typed=typed)
    assert done.returncode == 1
    assert "cannot encrypt: there is no secret on standard input" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("command", ["up", "plan", "drift", "verify", "history"])
def test_every_command_about_hosts_prints_help_with_limit(command: str) -> None:
    done = cli(command, "--help")
    assert done.returncode == 0
    assert "--limit" in done.stdout


def test_history_reports_unreachable_hosts(
    in_process: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unreachable = {"two": ConnectError("two: cannot be reached: timed out")}
    session = SimpleNamespace(everywhere=lambda read: {"one": read("one")})

    @contextmanager
    def connected(_: object) -> Iterator[tuple[object, object]]:
        yield session, unreachable

    monkeypatch.setattr(pipeline, "connected", connected)
    monkeypatch.setattr("provision.pipeline.run_journal.read", lambda *_: ())
    assert in_process("history", "-i", "prod", "--skip-unreachable", "--json") == 1
    printed = json.loads(capsys.readouterr().out)
    assert printed["exit"] == 1
    assert printed["history"] == {"one": []}
    assert printed["unreachable"] == {"two": "two: cannot be reached: timed out"}
    assert in_process("history", "-i", "prod", "--skip-unreachable") == 1
    assert "not reached: two: cannot be reached: timed out" in capsys.readouterr().out
    unreachable.clear()
    assert in_process("history", "-i", "prod", "--json") == 0
    assert json.loads(capsys.readouterr().out)["exit"] == 0


def test_link_is_printed_alone_on_standard_output(
    in_process: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, int]] = []

    def page_link(_: object, user: str, minutes: int, __: float) -> PageLink:
        asked.append((user, minutes))
        return PageLink("https://bot.example.com/console/#login=token", Path("/ca.pem"))

    monkeypatch.setattr("provision.console_link.page_link", page_link)
    assert in_process("console", "link", "-i", "prod", "--user", "ada", "--minutes", "60") == 0
    captured = capsys.readouterr()
    assert captured.out == "https://bot.example.com/console/#login=token\n"
    assert "for ada; it works once, within 60 minutes" in captured.err
    assert "until they trust the authority in /ca.pem" in captured.err
    assert asked == [("ada", 60)]
    assert in_process("console", "link", "-i", "prod", "--user", "x" * 129) == 1
    assert in_process("console", "link", "-i", "prod", "--minutes", "1439") == 1
    assert len(asked) == 1


def test_empty_message_of_chat_is_refused(
    in_process: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert in_process("chat", "-i", "prod", "-m", " ") == 1
    assert "the message is empty" in capsys.readouterr().err


def test_chat_continues_after_an_answer_that_failed(
    in_process: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ask(_: object, text: str, **__: object) -> Iterator[str]:
        yield f"about {text}: "
        if text == "rain":
            raise ConnectError("front: the answer is incomplete: the connection ended", advice="ask again")
        yield "fine"

    monkeypatch.setattr("provision.chat.ask", ask)
    monkeypatch.setattr("provision.chat.console_of", lambda _: None)
    monkeypatch.setattr("sys.stdin", io.StringIO("rain\nsun\n"))
    assert in_process("chat", "-i", "prod") == 0
    captured = capsys.readouterr()
    assert captured.out == "about rain: \nabout sun: fine\n"
    assert "the answer is incomplete: the connection ended\nhint: ask again" in captured.err
    assert in_process("chat", "-i", "prod", "-m", "rain") == 1
