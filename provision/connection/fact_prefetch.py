"""Prefetching of facts: commands of the last run are executed in one round trip when a plan begins.

A component reads facts (pyinfra) while it is evaluated, one after the other, about a hundred on a complete
host; each costs a channel, sudo and a shell, about three round trips. Most are the same in every run. The
laptop therefore records the commands by component, runs all of them on the host at once when a plan begins,
and answers the component from the results. A command without a result is run on the host as usual.

Results are used only while a host is evaluated and then dropped. The recorded commands run as root, so they
are stored where only this user can write, never in the project's folder, which is shared.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from paramiko import SSHException
from pyinfra.api import StringCommand
from pyinfra.connectors.util import CommandOutput, OutputLine, make_unix_command

from inventory.load import LoadedInventory
from provision.local.cache import default_folder

Answers = Mapping[str, tuple[str, ...]]
"""The lines that a host printed, by command line."""

_WHATEVER = {"print_input", "print_output", "_success_exit_codes", "_retries", "_retry_delay", "_retry_until"}
"""Arguments of pyinfra without effect on a command with exit status 0."""

_SHARED = stat.S_IRWXG | stat.S_IRWXO
PATIENCE = 60
"""Seconds for all prefetched commands together; after that each command is run separately."""


class FactPrefetch:
    """The prefetched facts of one host while its components are evaluated.

    Args:
        host: pyinfra's host, connected.
        record: file with the commands of the last run; read now, written by `remember`.

    """

    def __init__(self, host: Any, record: Path) -> None:
        self._host = host
        self._put = host.connector.run_shell_command
        self._record = record
        self._remembered = _read(record)
        self._asked: dict[str, dict[str, None]] = {}
        self._answers: Answers = {}
        self._component = ""

    @contextmanager
    def answering(self, components: Sequence[str]) -> Iterator[None]:
        """Run the recorded commands of these components; within the context they answer the connector."""
        questions = [question for name in components for question in self._remembered.get(name, ())]
        self._answers = self._put_together(tuple(dict.fromkeys(questions)))
        self._host.connector.run_shell_command = self._answer
        try:
            yield
        finally:
            self._host.connector.run_shell_command = self._put
            self._answers = {}

    def evaluating(self, component: str) -> None:
        """Record the following commands for this component."""
        self._component = component
        self._asked[component] = {}

    def remember(self) -> None:
        """Store the commands for the next run. An error is ignored: they are then run separately."""
        now = {**self._remembered, **{name: tuple(asked) for name, asked in self._asked.items()}}
        if now != self._remembered:
            with suppress(OSError):
                _write(self._record, now)

    def _answer(self, command: StringCommand, *words: Any, **arguments: Any) -> tuple[bool, CommandOutput]:
        question = _question(command, arguments, bool(self._host.data._sudo))
        if question is not None:
            self._asked[self._component][question] = None
            if (lines := self._answers.get(question)) is not None:
                return True, CommandOutput([OutputLine("stdout", line) for line in lines])
        ended: tuple[bool, CommandOutput] = self._put(command, *words, **arguments)
        return ended

    def _put_together(self, questions: Sequence[str]) -> Answers:
        if not questions:
            return {}
        mark = secrets.token_hex(16)
        try:
            _, output = self._put(
                StringCommand("sh"),
                _sudo=bool(self._host.data._sudo),
                _stdin=[_script(questions, mark)],
                _timeout=PATIENCE,
            )
        except (OSError, EOFError, SSHException, UnicodeDecodeError):
            return {}
        return dict(_answered(questions, output.stdout_lines, mark))


def _question(command: StringCommand, arguments: Mapping[str, Any], sudo: bool) -> str | None:
    """Return the command line of a fact; `None` when it must be run separately.

    That is the case when it runs as another user or in another shell, or contains a secret (masked parts).
    """
    plain = {key: value for key, value in arguments.items() if value and key not in _WHATEVER}
    shell = plain.pop("_shell_executable", "sh")
    if bool(plain.pop("_sudo", False)) != sudo or shell != "sh" or plain:
        return None
    line = make_unix_command(command)
    raw: str = line.get_raw_value()
    return raw if str(line) == raw else None


def _script(questions: Iterable[str], mark: str) -> str:
    """Return a POSIX shell script that runs all commands and prints `mark` and the exit status after each."""
    end = f"""printf '\\n{mark} %d\\n' "$?" """
    return "".join(f"{question} </dev/null 2>/dev/null\n{end}\n" for question in questions)


def _answered(
    questions: Sequence[str], lines: Iterable[str], mark: str
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the results with exit status 0; failed commands are run again to report their errors."""
    answer: list[str] = []
    asked = iter(questions)
    for line in lines:
        if not line.startswith(mark):
            answer.append(line)
            continue
        # After output that is empty or ends in a newline, the mark begins with an empty line.
        if answer and not answer[-1]:
            answer.pop()
        question = next(asked)
        if line == f"{mark} 0":
            yield question, tuple(answer)
        answer = []


def record_of(loaded: LoadedInventory, host: str) -> Path:
    """Return the file with the commands of a host: in the user's cache, by project and host."""
    of = json.dumps([str(loaded.state_folder), loaded.declared.hosts[host].address])
    folder = default_folder() / "asked" / hashlib.sha256(of.encode()).hexdigest()[:16]
    return folder / f"{host}.json"


def _read(record: Path) -> Mapping[str, tuple[str, ...]]:
    """Return the recorded commands; empty when another user could have written the file."""
    try:
        folder = record.parent.lstat()
        if not stat.S_ISDIR(folder.st_mode) or folder.st_uid != os.geteuid() or folder.st_mode & 0o022:
            return {}
        descriptor = os.open(record, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, encoding="utf-8") as file:
            state = os.fstat(file.fileno())
            if not stat.S_ISREG(state.st_mode) or state.st_uid != os.geteuid() or state.st_mode & _SHARED:
                return {}
            kept: dict[str, list[str]] = json.load(file)
        return {name: tuple(map(str, asked)) for name, asked in kept.items()}
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return {}


def _write(record: Path, asked: Mapping[str, Sequence[str]]) -> None:
    record.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.NamedTemporaryFile("w", dir=record.parent, delete=False, encoding="utf-8") as file:
        json.dump(asked, file, ensure_ascii=False, indent=1)
    Path(file.name).replace(record)
