"""Standard input and output of the command line: what goes where, how wide, and what refuses to be written.

Plans, checks and outcomes go to standard output; progress, questions, warnings and errors to standard error.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO, cast

from inventory.errors import ClawdError
from inventory.text import is_utf8, readable

if TYPE_CHECKING:
    from rich.console import Console

Differences = Literal["none", "short", "full"]
UNWRAPPED = 100_000
"""Columns of what is not a terminal: a program that reads it gets one line for one line."""

READ_VARIABLES = re.compile(
    r"HOME|LOGNAME|USER|USERNAME|LNAME|PATH|PYTHONPATH|SSH_AUTH_SOCK|TE?MP(DIR)?|(CLAWD|XDG|SUDO|SSL|REQUESTS)_.*|.*_PROXY",
    re.IGNORECASE,
)
"""Environment variables that this program or a library of its reads, apart from those that `!env` names."""


class OutputError(ClawdError):
    """What a command prints cannot be written."""


@dataclass(frozen=True, slots=True)
class View:
    """How much a command shows."""

    quiet: bool = False
    """No progress and no differences; warnings, errors and outcomes remain."""
    verbose: bool = False
    """Every operation as a line, every check, and warnings that were shown before."""
    differences: Differences = "short"
    """How much of the lines of files that would differ."""


def stdout_console() -> Console:
    """Return the console for what a command was asked for."""
    return _console(sys.stdout)


def stderr_console() -> Console:
    """Return the console for progress, questions and warnings."""
    return _console(sys.stderr)


def moves(console: Console) -> bool:
    """Return whether lines can be redrawn in place: on a terminal that understands it, and nowhere else.

    `FORCE_COLOR` makes rich take a pipe for a terminal, so the file itself is asked.
    """
    return console.is_terminal and not console.is_dumb_terminal and _is_terminal(console.file)


def _console(file: TextIO) -> Console:
    from rich.console import Console

    width = None if _is_terminal(file) else UNWRAPPED
    return Console(file=file, width=width, highlight=False)


def _is_terminal(file: Any) -> bool:
    try:
        return bool(file.isatty())
    except (AttributeError, OSError, ValueError):
        return False


def prepare_streams() -> None:
    """Make the standard streams of this process safe to use, whatever it was started with.

    A closed stream reads as empty and swallows what is written; characters that the terminal's encoding does
    not have are replaced; a write that fails raises `OutputError`.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, _opened_nowhere(number, mode))
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    if not isinstance(sys.stdout, _Guarded):
        sys.stdout = cast(TextIO, _Guarded(sys.stdout))


def flush() -> None:
    """Write out what is buffered, at the end of the process. Raises `OutputError`."""
    try:
        sys.stdout.flush()
    finally:
        # Python itself flushes once more, and would report a second failure in its own words.
        if isinstance(sys.stdout, _Guarded):
            sys.stdout = sys.stdout.stream


def read_stdin() -> str:
    """Return all of standard input as text. Raises `ClawdError` when it is not UTF-8."""
    raw = sys.stdin.buffer.read() if hasattr(sys.stdin, "buffer") else sys.stdin.read().encode()
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise ClawdError(
            f"standard input cannot be read: byte {error.start + 1} is not UTF-8",
            advice="convert it first, for instance with `iconv -f LATIN1 -t UTF-8`",
        ) from None


def check_text(value: str, what: str) -> str:
    """Return `value`. Raises `ClawdError` when it holds bytes that are not UTF-8."""
    if not is_utf8(value):
        raise ClawdError(
            f"{what} cannot be read: {readable(value)!r} is not UTF-8",
            advice="type it in a terminal that writes UTF-8, or set `LC_ALL=C.UTF-8`",
        )
    return value


def check_surroundings(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """Raise `ClawdError` for an argument, a variable that is read here or a current folder that is not UTF-8.

    What variables hold is not shown: it may be a password.
    """
    for number, word in enumerate(arguments, 1):
        check_text(word, f"argument {number}")
    for name, value in environment.items():
        if READ_VARIABLES.fullmatch(name) and not is_utf8(value):
            raise ClawdError(
                f"the environment variable {name} cannot be read: it is not UTF-8",
                advice=f"set {name} to UTF-8 text, or unset it",
            )
    try:
        here = str(Path.cwd())
    except FileNotFoundError:
        raise ClawdError("the current folder does not exist any more", advice="`cd` to another") from None
    if not is_utf8(here):
        raise ClawdError(
            "the name of the current folder is not UTF-8", advice="rename it, or `cd` to another"
        )


class _Guarded:
    """A text stream whose failing writes are errors with a message: the first one, and all that follow."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._failure: OutputError | None = None

    def write(self, text: str) -> int:
        self._raise_again()
        try:
            return self.stream.write(text)
        except OSError as error:
            self._failure = self._given_up(error)
            raise self._failure from None

    def flush(self) -> None:
        self._raise_again()
        try:
            self.stream.flush()
        except OSError as error:
            self._failure = self._given_up(error)
            raise self._failure from None

    def _raise_again(self) -> None:
        """Raise what an earlier write failed with: a library may have ignored it."""
        if self._failure:
            raise self._failure

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def _given_up(self, error: OSError) -> OutputError:
        """Return what to raise; nothing is written there from now on, not when Python ends either."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, self.stream.fileno())
        finally:
            os.close(nowhere)
        if isinstance(error, BrokenPipeError):
            return OutputError(
                "standard output cannot be written: the program that read it has ended",
                advice="what was printed before is complete; the command itself may have changed hosts",
            )
        return OutputError(
            f"standard output cannot be written: {error.strerror}",
            advice="see where it is redirected to; the command itself may have changed hosts",
        )


def _opened_nowhere(number: int, mode: str) -> TextIO:
    """Return a stream of /dev/null under the descriptor of a closed one, which no other file then takes."""
    descriptor = os.open(os.devnull, os.O_RDONLY if mode == "r" else os.O_WRONLY)
    if descriptor != number:
        os.dup2(descriptor, number)
        os.close(descriptor)
    return cast(TextIO, os.fdopen(number, mode, encoding="utf-8", closefd=False))
