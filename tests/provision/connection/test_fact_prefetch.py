"""What was asked of a host before is asked at once, with the answers it would have given one by one."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyinfra.api import HiddenValue, QuoteString, StringCommand
from pyinfra.connectors.util import CommandOutput, OutputLine, make_unix_command

from inventory.load import LoadedInventory
from inventory.model import Inventory
from provision.connection.fact_prefetch import FactPrefetch, record_of


class Shell:
    """A connector to this machine that counts its round trips."""

    def __init__(self) -> None:
        self.trips = 0
        self.stdins: list[str] = []

    def run_shell_command(self, command: StringCommand, **arguments: Any) -> tuple[bool, CommandOutput]:
        self.trips += 1
        given = "".join(arguments.get("_stdin") or ())
        self.stdins.append(given)
        line = make_unix_command(command).get_raw_value()
        done = subprocess.run(line, shell=True, input=given, capture_output=True, text=True)
        # As pyinfra reads it: line by line, each without its newline.
        lines = (
            [text.removesuffix("\n") for text in done.stdout.splitlines(keepends=True)] if done.stdout else []
        )
        return done.returncode == 0, CommandOutput([OutputLine("stdout", line) for line in lines])


def host(sudo: bool = False) -> Any:
    return SimpleNamespace(connector=Shell(), data=SimpleNamespace(_sudo=sudo))


def asking(at: Any, record: Path, *commands: str | StringCommand, **arguments: Any) -> list[list[str]]:
    """What a component that asks these hears, in a run of its own."""
    prefetch = FactPrefetch(at, record)
    heard = []
    with prefetch.answering(["base"]):
        prefetch.evaluating("base")
        for command in commands:
            asked = StringCommand(command) if isinstance(command, str) else command
            _, output = at.connector.run_shell_command(asked, **arguments)
            heard.append(output.stdout_lines)
    prefetch.remember()
    return heard


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "asked" / "bot1.json"


def test_known_questions_take_one_round_trip(record: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old\n")
    questions = ("echo one", f"cat {tmp_path}/file", "printf 'a\\nb'")
    first, second = host(), host()
    assert asking(first, record, *questions) == [["one"], ["old"], ["a", "b"]]
    assert first.connector.trips == 3
    (tmp_path / "file").write_text("new\n")
    assert asking(second, record, *questions) == [["one"], ["new"], ["a", "b"]]
    assert second.connector.trips == 1


def test_unknown_question_is_asked_and_prefetched_next_time(record: Path) -> None:
    asking(host(), record, "echo one")
    second, third = host(), host()
    assert asking(second, record, "echo one", "echo two") == [["one"], ["two"]]
    assert second.connector.trips == 2
    assert asking(third, record, "echo two") == [["two"]]
    assert third.connector.trips == 1
    assert list(json.loads(record.read_text()).values()) == [["sh -c 'echo two'"]]


def test_record_keeps_questions_of_components_left_out(record: Path) -> None:
    asking(host(), record, "echo one")
    other = FactPrefetch(host(), record)
    with other.answering(["nginx"]):
        other.evaluating("nginx")
    other.remember()
    assert set(json.loads(record.read_text())) == {"base", "nginx"}
    assert json.loads(record.read_text())["base"]


def test_failed_prefetched_question_is_asked_again(record: Path) -> None:
    questions = ("echo before", "echo half; exit 3", "echo after")
    asking(host(), record, *questions)
    again = host()
    assert asking(again, record, *questions) == [["before"], ["half"], ["after"]]
    assert again.connector.trips == 2


def test_prefetched_answers_are_not_used_after_the_plan(record: Path) -> None:
    at = host()
    asking(at, record, "echo one")
    asking(at, record, "echo one")
    before = at.connector.trips
    at.connector.run_shell_command(StringCommand("echo one"))
    assert at.connector.trips == before + 1


@pytest.mark.parametrize(
    "arguments",
    [{"_sudo": True}, {"_env": {"A": "b"}}, {"_chdir": "/"}, {"_stdin": ["x"]}, {"_get_pty": True}],
)
def test_questions_with_other_arguments_are_asked_alone(record: Path, arguments: dict[str, Any]) -> None:
    asking(host(), record, "echo one", **arguments)
    again = host()
    asking(again, record, "echo one", **arguments)
    assert again.connector.trips == 1
    assert again.connector.stdins == ["x" if "_stdin" in arguments else ""]


def test_question_with_a_secret_is_not_recorded(record: Path) -> None:
    secret = StringCommand("echo", QuoteString(HiddenValue("canary")))
    asking(host(), record, "echo one", secret)
    assert "canary" not in record.read_text()
    assert record.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "spoil",
    [
        lambda record: record.chmod(0o622),
        lambda record: record.write_text("[1]"),
        lambda record: record.write_text('{"base": 1}'),
        lambda record: record.write_text("{"),
        lambda record: record.unlink(),
    ],
    ids=["writable by others", "not a mapping", "no list", "cut off", "gone"],
)
def test_damaged_or_foreign_record_is_not_used(record: Path, spoil: Callable[[Path], Any]) -> None:
    asking(host(), record, "echo one")
    spoil(record)
    again = host()
    assert asking(again, record, "echo one") == [["one"]]
    assert again.connector.stdins == [""]


def test_interrupted_prefetch_falls_back_to_single_questions(
    record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking(host(), record, "echo one")
    again = host()
    put = again.connector.run_shell_command

    def breaking(command: StringCommand, **arguments: Any) -> tuple[bool, CommandOutput]:
        if arguments.get("_stdin"):
            raise TimeoutError
        ended: tuple[bool, CommandOutput] = put(command, **arguments)
        return ended

    monkeypatch.setattr(again.connector, "run_shell_command", breaking)
    assert asking(again, record, "echo one") == [["one"]]


# Without what only Python takes for the end of a line: how pyinfra reads those is its own affair.
TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Zl", "Zp")) | st.just("\n"), max_size=20
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answers=st.lists(TEXT, min_size=1, max_size=4))
def test_prefetched_answers_equal_single_answers(tmp_path: Path, answers: list[str]) -> None:
    record = tmp_path / "any.json"
    record.unlink(missing_ok=True)
    commands = [StringCommand("printf", "%s", QuoteString(answer)) for answer in answers]
    one_by_one = asking(host(), record, *commands)
    at = host()
    assert asking(at, record, *commands) == one_by_one
    assert at.connector.trips == 1


def test_record_is_in_the_cache_of_the_user_by_project_and_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAWD_CACHE", str(tmp_path / "cache"))

    def loaded(folder: str, address: str) -> LoadedInventory:
        models = {"default": {"engine": "openai-compatible", "endpoint": "https://models.example.com/v1"}}
        declared = {"hosts": {"bot1": {"address": address}}, "models": models}
        return LoadedInventory(Inventory.model_validate(declared), tmp_path / folder / "prod.yml")

    kept = record_of(loaded("one", "192.0.2.1"), "bot1")
    assert kept.is_relative_to(tmp_path / "cache")
    others = {record_of(loaded("two", "192.0.2.1"), "bot1"), record_of(loaded("one", "192.0.2.2"), "bot1")}
    assert len({kept, *others}) == 3
    asking(host(), kept, "echo one")
    assert kept.stat().st_mode & 0o777 == 0o600
    assert kept.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("how", ["readable", "folder", "link", "another's", "pipe"])
def test_record_writable_by_others_is_not_used(record: Path, tmp_path: Path, how: str) -> None:
    asking(host(), record, f"touch {tmp_path}/asked-too", "echo one")
    (tmp_path / "asked-too").unlink()
    if how == "readable":
        record.chmod(0o644)
    elif how == "folder":
        record.parent.chmod(0o777)
    elif how == "link":
        record.rename(tmp_path / "elsewhere")
        record.symlink_to(tmp_path / "elsewhere")
    elif how == "pipe":
        record.unlink()
        os.mkfifo(record, 0o600)
    elif os.geteuid() == 0:
        os.chown(record, 65534, 65534)
    else:
        pytest.skip("giving a file away needs root")
    later = host()
    assert asking(later, record, "echo one") == [["one"]]
    assert not (tmp_path / "asked-too").exists()
