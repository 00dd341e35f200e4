"""What a component asked of a host at the last run is asked in one round trip, before it asks again.

A component asks (pyinfra: facts) while it is evaluated, one question after the other, about a hundred on a
whole host; every one costs a channel, sudo and a shell, some three round trips. Most are the same at every
run. So the laptop remembers them by component, puts all of them to the host at once when a plan begins, and
the component finds its answers here. A question that was not foreseen is put to the host as ever.

Only what a host answers while it is examined comes from here, and no answer outlives that. What is remembered
is run as root, so it is kept where only this user writes, never in the project's folder, which people share.
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

from inventory.load import Loaded
from provision.artifacts.cache import default_folder

Answers = Mapping[str, tuple[str, ...]]
"""The lines that a host printed, by the command line that asked for them."""

_WHATEVER = {"print_input", "print_output", "_success_exit_codes", "_retries", "_retry_delay", "_retry_until"}
"""Arguments of pyinfra's that change nothing for a command that ends with exit status 0."""

_SHARED = stat.S_IRWXG | stat.S_IRWXO
PATIENCE = 60
"""Seconds that a host has for all the answers; after that every question is put on its own."""


class Foresight:
    """The questions of one host while its components are evaluated; `with` it, they are answered from here.

    Args:
        host: pyinfra's host, connected.
        record: what it was asked at the last run; read now, written by `remember`.
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
        """Puts what is remembered of these components to the host; meanwhile its connector answers."""
        questions = [question for name in components for question in self._remembered.get(name, ())]
        self._answers = self._put_together(tuple(dict.fromkeys(questions)))
        self._host.connector.run_shell_command = self._answer
        try:
            yield
        finally:
            self._host.connector.run_shell_command = self._put
            self._answers = {}

    def evaluating(self, component: str) -> None:
        """What is asked from here on is asked by this component."""
        self._component = component
        self._asked[component] = {}

    def remember(self) -> None:
        """Keeps what was asked for the next run. What cannot be written is asked one by one again."""
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
    """The command line behind a question; nothing when it must be put on its own.

    That is so when it does not run as the others do, or when part of it is hidden: it is a secret.
    """
    plain = {key: value for key, value in arguments.items() if value and key not in _WHATEVER}
    shell = plain.pop("_shell_executable", "sh")
    if bool(plain.pop("_sudo", False)) != sudo or shell != "sh" or plain:
        return None
    line = make_unix_command(command)
    raw: str = line.get_raw_value()
    return raw if str(line) == raw else None


def _script(questions: Iterable[str], mark: str) -> str:
    """A POSIX shell script that puts every question, and `mark` and the exit status after each answer."""
    told = f"""printf '\\n{mark} %d\\n' "$?" """
    return "".join(f"{question} </dev/null 2>/dev/null\n{told}\n" for question in questions)


def _answered(
    questions: Sequence[str], lines: Iterable[str], mark: str
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The answers that were given with exit status 0; the others are asked for again, to hear why."""
    answer: list[str] = []
    asked = iter(questions)
    for line in lines:
        if not line.startswith(mark):
            answer.append(line)
            continue
        # An answer that ends in a newline, or is empty, is followed by an empty line of ours.
        if answer and not answer[-1]:
            answer.pop()
        question = next(asked)
        if line == f"{mark} 0":
            yield question, tuple(answer)
        answer = []


def record_of(loaded: Loaded, host: str) -> Path:
    """Return where the questions of a host are remembered: in the user's cache, by project and host."""
    of = json.dumps([str(loaded.state_folder), loaded.declared.hosts[host].address])
    folder = default_folder() / "asked" / hashlib.sha256(of.encode()).hexdigest()[:16]
    return folder / f"{host}.json"


def _read(record: Path) -> Mapping[str, tuple[str, ...]]:
    """What was remembered; nothing where somebody else could have written or put it there."""
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
