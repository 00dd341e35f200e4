"""What the command line prints where: pipes, full disks, closed streams, shells that ask for completions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import pytest

import cli
from commands.sandbox import sandbox_up
from provision import pipeline
from provision.run import Exit, Outcome, Run
from provision.sandbox.layout import MAX_HOSTS
from tests import preloading
from tests.test_cli import ROOT, in_process, inventory

__all__ = ["in_process"]

AGE = "age1" + "q" * 58


def run(
    *words: str | bytes,
    cwd: Path | bytes = ROOT,
    environment: Mapping[str, str | bytes] | None = None,
    typed: bytes = b"",
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        preloading.command_line(*words),
        cwd=cwd, env={**os.environb, b"JWT_SECRET": b"x" * 40, **_as_bytes(environment or {})}, input=typed,
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip


def _as_bytes(environment: Mapping[str, str | bytes]) -> dict[bytes, bytes]:
    return {os.fsencode(name): os.fsencode(value) for name, value in environment.items()}


def run_in_new_process(
    *words: str | bytes, cwd: Path | bytes = ROOT, **options: Any
) -> subprocess.CompletedProcess[bytes]:
    """Run the program in an interpreter of its own."""
    environment = {**os.environ, "JWT_SECRET": "x" * 40, **options.pop("environment", {})}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    command = [sys.executable, ROOT / "cli.py", *words]
    return subprocess.run(command, cwd=cwd, env=environment, timeout=60, check=False, **options)


def test_fork_of_the_program_does_what_a_new_interpreter_does(tmp_path: Path) -> None:
    inventory(tmp_path)
    for words in (
        ("plan", "-i", "prd", "--quiet"),
        ("inventory", "check", "-i", "prod"),
        ("plan", "--nonsense"),
    ):
        forked, started = run(*words, cwd=tmp_path), run_in_new_process(*words, cwd=tmp_path)
        assert forked.stdout + forked.stderr
        assert (forked.returncode, forked.stdout, forked.stderr) == (
            started.returncode,
            started.stdout,
            started.stderr.replace(b"cli.py", b"clawd-provision"),
        )


def one_sentence(done: subprocess.CompletedProcess[bytes]) -> str:
    """Return what an error printed, which is no traceback and no internal error."""
    said = done.stderr.decode()
    assert done.returncode == 1, said
    assert "Traceback" not in said
    assert "internal error" not in said
    assert "Exception ignored" not in said
    return said


def test_full_disk_at_standard_output_is_reported_with_its_reason() -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        done = run_in_new_process("inventory", "schema", stdout=full)
    assert "cannot write to standard output: No space left on device" in one_sentence(done)


def test_closed_pipe_at_standard_output_is_reported_with_its_reason() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        done = run_in_new_process("inventory", "schema", stdout=pipe)
    assert "the program that read it has ended" in one_sentence(done)


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_closed_standard_stream_does_not_fail_the_command(closed: str) -> None:
    words = f"{sys.executable} {ROOT}/cli.py inventory schema {closed}"
    done = subprocess.run(["sh", "-c", words], capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr


def test_encrypt_refuses_a_secret_that_is_not_utf_8_with_the_byte() -> None:
    done = run("inventory", "encrypt", "--recipient", AGE, typed=b"pass\xe9word")
    assert "cannot read standard input: byte 5 is not UTF-8" in one_sentence(done)


@pytest.mark.parametrize("words", [("chat", "-i", "prod", "-m", b"caf\xe9"), ("plan", "-i", b"caf\xe9")])
def test_argument_that_is_not_utf_8_is_refused(words: tuple[str | bytes, ...], tmp_path: Path) -> None:
    inventory(tmp_path)
    assert "is not UTF-8" in one_sentence(run(*words, cwd=tmp_path))


@pytest.mark.parametrize(
    "name",
    ["HOME", "LOGNAME", "XDG_STATE_HOME", "CLAWD_CACHE", "CLAWD_AGE_KEY", "CLAWD_AGE_KEY_FILE",
     "CLAWD_INVENTORY", "HTTPS_PROXY", "no_proxy", "TMPDIR", "PATH", "SSH_AUTH_SOCK"],
)  # fmt: skip
@pytest.mark.parametrize("words", [("inventory", "check", "-i", "prod"), ("plan", "-i", "prod")])
def test_environment_variable_that_is_not_utf_8_is_refused_by_name_without_its_value(
    name: str, words: tuple[str, ...], tmp_path: Path
) -> None:
    inventory(tmp_path)
    said = one_sentence(run(*words, cwd=tmp_path, environment={name: b"/tmp/h\xff"}))
    assert f"cannot read the environment variable {name}: it is not UTF-8" in said
    assert "/tmp/h" not in said


def test_unused_environment_variable_may_be_other_than_utf_8(tmp_path: Path) -> None:
    inventory(tmp_path)
    done = run("inventory", "check", "-i", "prod", cwd=tmp_path, environment={"LESS_TERMCAP": b"\xff"})
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", [("inventory", "check"), ("plan",), ("chat", "-m", "hello")])
def test_secret_variable_that_is_not_utf_8_is_a_mistake_with_line_and_column(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    inventory(tmp_path)
    done = run(*command, "-i", "prod", cwd=tmp_path, environment={"JWT_SECRET": b"\xff" + b"x" * 40})
    said = one_sentence(done)
    assert "prod.yml:6:25: the environment variable JWT_SECRET is not UTF-8 text" in said
    assert "xxx" not in said


def test_current_folder_that_is_not_utf_8_or_was_deleted_is_reported(tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/h\xff"
    Path(os.fsdecode(odd)).mkdir()
    assert "the name of the current folder is not UTF-8" in one_sentence(run("plan", "-i", "prod", cwd=odd))
    words = (
        f"mkdir {tmp_path}/gone; cd {tmp_path}/gone; rmdir ../gone; {sys.executable} {ROOT}/cli.py plan -i x"
    )
    done = subprocess.run(["sh", "-c", words], capture_output=True, timeout=60, check=False)
    assert "the current folder no longer exists" in one_sentence(done)


def test_files_in_a_folder_whose_name_is_not_utf_8_are_refused(tmp_path: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/h\xff"))
    odd.mkdir()
    (tmp_path / "link").symlink_to(odd)
    model = "{engine: openai-compatible, endpoint: https://x/v1}"
    hosts = "{one: {address: 127.0.0.1, ssh_key: link/id}}"
    (tmp_path / "one.yml").write_text(f"hosts: {hosts}\nmodels: {{default: {model}}}\n")
    said = one_sentence(run("inventory", "check", "-i", "one.yml", cwd=tmp_path))
    assert "`hosts.one.ssh_key` is in a folder whose name is not UTF-8" in said
    inventory(odd)
    said = one_sentence(run("plan", "-i", "link/inventory/prod.yml", cwd=tmp_path))
    assert "link/inventory/prod.yml is in a folder whose name is not UTF-8" in said


def test_inventory_that_is_not_utf_8_is_a_mistake_with_its_line(tmp_path: Path) -> None:
    file = inventory(tmp_path)
    file.write_bytes(file.read_bytes() + b"# caf\xe9\n")
    assert "prod.yml:7:" in one_sentence(run("plan", "-i", "prod", cwd=tmp_path))


def test_terminal_without_utf_8_gets_replacement_characters(tmp_path: Path) -> None:
    inventory(tmp_path)
    done = run_in_new_process("plan", "-i", "prod", cwd=tmp_path, environment={"PYTHONIOENCODING": "ascii"})
    assert "cannot be reached" in one_sentence(done)


CONSOLE = """hosts:
  one: {address: 127.0.0.1, roles: [nginx, runtime]}
models:
  default: {engine: openai-compatible, endpoint: "https://models.example.com/v1"}
tls: {mode: acme, acme: {email: ops@example.com}, names: [bot.example.com]}
channels:
  console: {jwt_secret: !env JWT_SECRET}
"""


@pytest.mark.parametrize(
    ("proxy", "said"),
    [("socks5://127.0.0.1:1080", "SOCKS is not supported"), ("nonsense://x", "cannot use the proxy")],
)
def test_proxy_that_chat_cannot_use_is_reported_with_its_variable(
    proxy: str, said: str, tmp_path: Path
) -> None:
    inventory(tmp_path, CONSOLE)
    done = run("chat", "-i", "prod", "-m", "hello", cwd=tmp_path, environment={"ALL_PROXY": proxy})
    printed = one_sentence(done)
    assert "cannot use the proxy of ALL_PROXY" in printed
    assert said in printed


@pytest.mark.parametrize(
    ("name", "proxy"),
    [
        ("HTTPS_PROXY", "http://u:p4ss@127.0.0.1:1"),
        ("https_proxy", "http://u:p4ss@no-such-host.invalid:1"),
        ("ALL_PROXY", "u:p4ss@127.0.0.1:1"),
    ],
)
def test_unreachable_proxy_is_reported_without_its_password(name: str, proxy: str, tmp_path: Path) -> None:
    inventory(tmp_path, CONSOLE)
    done = run("chat", "-i", "prod", "-m", "hello", cwd=tmp_path, environment={name: proxy, "NO_PROXY": ""})
    printed = one_sentence(done)
    place = proxy.rpartition("@")[2]
    assert f"the proxy http://{place} of {name.upper()} cannot connect to https://bot.example.com" in printed
    assert "p4ss" not in printed


@pytest.mark.parametrize(
    "proxy", ["http://user:p4ss#word@x:1", "http://user:p4ss@x:y", "nonsense://u:p4ss@x"]
)
def test_malformed_proxy_is_reported_without_its_password(proxy: str, tmp_path: Path) -> None:
    inventory(tmp_path, CONSOLE)
    done = run("chat", "-i", "prod", "-m", "hello", cwd=tmp_path, environment={"HTTPS_PROXY": proxy})
    assert "p4ss" not in one_sentence(done)


@pytest.mark.parametrize("content", [b"", b"garbage", b"\xff\xfe", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_damaged_authority_certificate_is_reported_with_its_path(content: bytes, tmp_path: Path) -> None:
    file = inventory(tmp_path)
    authority = file.parent / ".clawd" / "clawd" / "ca" / "ca.pem"
    authority.parent.mkdir(parents=True)
    authority.write_bytes(content)
    said = one_sentence(run("chat", "-i", "prod", "-m", "hello", cwd=tmp_path))
    assert f"cannot read {authority}: it holds no certificate" in said


@pytest.mark.parametrize("content", [b"\xff", b"age1nonsense", b"\x00" * 9])
def test_damaged_recipients_file_is_reported(content: bytes, tmp_path: Path) -> None:
    file = inventory(tmp_path)
    (file.parent / ".clawd").mkdir()
    (file.parent / ".clawd" / "recipients").write_bytes(content)
    one_sentence(run("inventory", "encrypt", cwd=tmp_path, typed=b"secret"))


def test_pyinfra_alone_reports_the_field_of_host_data_that_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "hosts.py").write_text('hosts = [("@local", {"base": {"time_zone": 5, "pakages": []}})]\n')
    pyinfra = Path(sys.executable).with_name("pyinfra")
    command = [str(pyinfra), "-y", "--dry", "hosts.py", "deploys.base.deploy.apply"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=60,
        check=False,
    )
    printed = one_sentence(done)
    assert "host @local: base.time_zone: Input should be a valid string" in printed
    assert "host @local: base.pakages: Extra inputs are not permitted" in printed


def test_every_run_prints_the_path_of_its_log(tmp_path: Path) -> None:
    inventory(tmp_path)
    state = {"XDG_STATE_HOME": str(tmp_path / "state")}
    done = run_in_new_process("plan", "-i", "prod", cwd=tmp_path, environment=state)
    (log,) = (tmp_path / "state").rglob("*.log")
    assert done.stderr.decode().endswith(f"log: {log}\n")
    quiet = run_in_new_process("plan", "-i", "prod", "--quiet", cwd=tmp_path, environment=state)
    assert b"log:" not in quiet.stderr
    assert b"cannot be reached" in quiet.stderr


def test_output_into_a_pipe_has_no_control_codes_and_no_wrapped_lines(tmp_path: Path) -> None:
    inventory(tmp_path)
    environment = {"FORCE_COLOR": "1", "COLUMNS": "20", "TERM": "xterm"}
    done = run_in_new_process("plan", "-i", "prod", cwd=tmp_path, environment=environment)
    said = done.stderr.decode()
    for code in ("\r", "\x1b[2K", "\x1b[1A", "\x1b[?25l"):
        assert code not in said, "lines are redrawn in a pipe"
    assert said.splitlines()[0] == "connecting"
    assert any("one (root@127.0.0.1:9)" in line and "cannot be reached" in line for line in said.splitlines())


# Completions


def completions(line: str, cwd: Path) -> list[str]:
    """Return what bash is offered at the end of `line`."""
    words = line.split(" ")
    environment = {
        "_CLAWD_PROVISION_COMPLETE": "bash_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    program = Path(sys.executable).with_name("clawd-provision")
    done = subprocess.run(
        [program], cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    return [offered.partition(",")[2] for offered in done.stdout.splitlines() if offered]


def test_shell_completion_offers_inventories_hosts_and_components(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    inventory(tmp_path, f"hosts: {{web1: {{}}, web2: {{}}, db: {{password: !cmd touch {ran}}}}}\n")
    assert completions("clawd-provision plan -i ", tmp_path) == ["prod"]
    assert completions("clawd-provision plan -i prod --limit we", tmp_path) == ["web1", "web2"]
    assert completions("clawd-provision plan -i prod --limit web1,", tmp_path) == ["web1,web2", "web1,db"]
    assert completions("clawd-provision plan --tags ngi", tmp_path) == ["nginx"]
    assert "verify" in completions("clawd-provision ve", tmp_path)
    assert not ran.exists(), "a completion ran a command of the inventory"


@pytest.mark.parametrize(
    "text", ["", "hosts: [", "hosts: 5", "[" * 5000, "hosts: !!python/object:os.system {}"]
)
def test_shell_completion_offers_nothing_for_an_unreadable_inventory(text: str, tmp_path: Path) -> None:
    inventory(tmp_path, text or "\n")
    assert completions("clawd-provision plan -i prod --limit ", tmp_path) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_the_script_of_the_shell(shell: str) -> None:
    done = run("completion", shell)
    assert done.returncode == 0
    assert b"_CLAWD_PROVISION_COMPLETE" in done.stdout


FIELDS = {
    "exit", "message", "error", "advice", "mistakes", "warnings", "log", "unreachable", "plan", "result",
    "verification", "history",
}  # fmt: skip
COMMANDS = ("plan", "up", "drift", "verify", "history", "remove")


def in_json(done: subprocess.CompletedProcess[bytes]) -> dict[str, Any]:
    """Return what a command printed as JSON, which has every field and nothing else."""
    printed: dict[str, Any] = json.loads(done.stdout)
    assert printed.keys() == FIELDS
    assert printed["exit"] == done.returncode
    assert Path(printed["log"]).is_file()
    assert isinstance(printed["warnings"], list)
    return printed


@pytest.mark.parametrize("command", COMMANDS)
def test_json_of_every_command_lists_unreachable_hosts(command: str, tmp_path: Path) -> None:
    inventory(tmp_path)
    printed = in_json(run_in_new_process(command, "-i", "prod", "--json", cwd=tmp_path))
    assert printed["exit"] == 1
    assert list(printed["unreachable"]) == ["one"]
    assert "cannot be reached" in printed["unreachable"]["one"]
    assert printed["mistakes"] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_json_has_every_field_when_the_inventory_has_mistakes(command: str, tmp_path: Path) -> None:
    inventory(tmp_path, "hosts: {one: {}}\nmodels: {}\n")
    printed = in_json(run(command, "-i", "prod", "--json", cwd=tmp_path))
    assert printed["exit"] == 1
    assert len(printed["mistakes"]) == 2
    assert printed["unreachable"] == {}


@pytest.mark.parametrize("command", COMMANDS)
def test_json_has_every_field_when_a_command_is_interrupted(
    command: str,
    tmp_path: Path,
    in_process: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(run: Run, *_: object, **__: object) -> None:
        run.progress.warn("the disk of one is nearly full")
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, command, interrupted)
    code = in_process(command, "-i", "prod", "--json")
    printed = in_json(subprocess.CompletedProcess([], code, capsys.readouterr().out.encode()))
    assert (printed["exit"], printed["error"]) == (130, "interrupted")
    assert printed["warnings"] == ["the disk of one is nearly full"]


@pytest.mark.parametrize("command", COMMANDS)
def test_json_has_every_field_when_a_command_succeeds(
    command: str,
    in_process: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def succeeds(*_: object, **__: object) -> object:
        return ({"one": ()}, {}) if command == "history" else Outcome(Exit.DONE)

    monkeypatch.setattr(pipeline, command, succeeds)
    code = in_process(command, "-i", "prod", "--json")
    printed = in_json(subprocess.CompletedProcess([], code, capsys.readouterr().out.encode()))
    assert printed["error"] is None
    assert printed["history"] == ({"one": []} if command == "history" else None)


def test_progress_of_json_commands_goes_to_standard_error(tmp_path: Path) -> None:
    inventory(tmp_path)
    done = run_in_new_process("plan", "-i", "prod", "--json", cwd=tmp_path)
    assert done.stdout.startswith(b"{")
    assert b"connecting" in done.stderr


@pytest.mark.parametrize("number", ["0", "-1", "1.5", "x", "", "99999999999999999999"])
@pytest.mark.parametrize("words", [("history", "-i", "prod", "--last"), ("sandbox", "up", "--hosts")])
def test_number_out_of_range_is_refused_before_connecting(
    number: str, words: tuple[str, ...], tmp_path: Path
) -> None:
    inventory(tmp_path)
    said = one_sentence(run(*words, number, cwd=tmp_path))
    assert f"Invalid value for '{words[-1]}'" in said
    assert "connecting" not in said
    assert "starting" not in said


def test_every_numeric_option_has_a_range() -> None:
    numeric = [
        option for option in every_option(cli.program) if isinstance(option.type, click.types.IntParamType)
    ]
    assert len(numeric) >= 2
    for option in numeric:
        assert isinstance(option.type, click.IntRange), option.name


def test_sandbox_up_accepts_at_most_max_hosts() -> None:
    (most,) = (option.type.max for option in sandbox_up.params if isinstance(option.type, click.IntRange))
    assert most == MAX_HOSTS


def every_option(command: click.Command) -> list[click.Parameter]:
    below = command.commands.values() if isinstance(command, click.Group) else ()
    return [*command.params, *(option for inner in below for option in every_option(inner))]
