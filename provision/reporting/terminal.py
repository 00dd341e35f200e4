"""Standard streams of the command line: destinations, width, and errors.

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
from inventory.reading.text import is_utf8, readable

if TYPE_CHECKING:
    from rich.console import Console

Differences = Literal["none", "short", "full"]
UNWRAPPED = 100_000
"""Width of output that is not a terminal, so that a program reads unwrapped lines."""

READ_VARIABLES = re.compile(
    r"HOME|LOGNAME|USER|USERNAME|LNAME|PATH|PYTHONPATH|SSH_AUTH_SOCK|TE?MP(DIR)?|(CLAWD|XDG|SUDO|SSL|REQUESTS)_.*|.*_PROXY",
    re.IGNORECASE,
)
"""Environment variables that this program or its libraries read, in addition to those of `!env`."""


class OutputError(ClawdError):
    """The output of a command cannot be written."""


@dataclass(frozen=True, slots=True)
class View:
    """The level of output of a command."""

    quiet: bool = False
    """Print no progress and no differences, only warnings, errors and outcomes."""
    verbose: bool = False
    """Print every operation, every check, and warnings of earlier runs."""
    differences: Differences = "short"
    """How many of the differing lines of files to print."""


def stdout_console() -> Console:
    """Return the console for the result of a command."""
    return _console(sys.stdout)


def stderr_console() -> Console:
    """Return the console for progress, questions and warnings."""
    return _console(sys.stderr)


def moves(console: Console) -> bool:
    """Return whether lines can be redrawn in place, which only a capable terminal supports.

    The file itself is checked, because `FORCE_COLOR` makes rich treat a pipe as a terminal.
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
    """Make the standard streams of this process safe to use in any environment.

    A closed stream reads as empty and discards writes; characters that the terminal's encoding lacks are
    replaced; a failed write raises `OutputError`.
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
    """Flush standard output at the end of the process. Raises `OutputError`."""
    try:
        sys.stdout.flush()
    finally:
        # Python flushes once more at exit and would print a second failure itself.
        if isinstance(sys.stdout, _Guarded):
            sys.stdout = sys.stdout.stream


def read_stdin() -> str:
    """Return all of standard input as text. Raises `ClawdError` when it is not UTF-8."""
    raw = sys.stdin.buffer.read() if hasattr(sys.stdin, "buffer") else sys.stdin.read().encode()
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise ClawdError(
            f"cannot read standard input: byte {error.start + 1} is not UTF-8",
            advice="convert it, for example with `iconv -f LATIN1 -t UTF-8`",
        ) from None


def check_text(value: str, what: str) -> str:
    """Return `value`. Raises `ClawdError` when it contains bytes that are not UTF-8."""
    if not is_utf8(value):
        raise ClawdError(
            f"cannot read {what}: {readable(value)!r} is not UTF-8",
            advice="use a terminal with UTF-8, or set `LC_ALL=C.UTF-8`",
        )
    return value


def check_surroundings(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """Raise `ClawdError` for an argument, a relevant variable or a current folder that is not UTF-8.

    Values of variables are not shown, because they may be passwords.
    """
    for number, word in enumerate(arguments, 1):
        check_text(word, f"argument {number}")
    for name, value in environment.items():
        if READ_VARIABLES.fullmatch(name) and not is_utf8(value):
            raise ClawdError(
                f"cannot read the environment variable {name}: it is not UTF-8",
                advice=f"set {name} to UTF-8 text, or unset it",
            )
    try:
        here = str(Path.cwd())
    except FileNotFoundError:
        raise ClawdError("the current folder no longer exists", advice="`cd` to another") from None
    if not is_utf8(here):
        raise ClawdError(
            "the name of the current folder is not UTF-8", advice="rename it, or `cd` to another"
        )


class _Guarded:
    """A text stream that raises `OutputError` for the first failed write and all later ones."""

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
        """Raise the error of an earlier write again, because a library may have ignored it."""
        if self._failure:
            raise self._failure

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def _given_up(self, error: OSError) -> OutputError:
        """Return the error to raise, and discard all later writes, including those at exit."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, self.stream.fileno())
        finally:
            os.close(nowhere)
        if isinstance(error, BrokenPipeError):
            return OutputError(
                "cannot write to standard output: the program that read it has ended",
                advice="everything printed before is complete; the command itself may have changed hosts",
            )
        return OutputError(
            f"cannot write to standard output: {error.strerror}",
            advice="check where it is redirected to; the command itself may have changed hosts",
        )


def _opened_nowhere(number: int, mode: str) -> TextIO:
    """Return a stream of /dev/null under the descriptor of a closed stream, so that no other file gets it."""
    descriptor = os.open(os.devnull, os.O_RDONLY if mode == "r" else os.O_WRONLY)
    if descriptor != number:
        os.dup2(descriptor, number)
        os.close(descriptor)
    return cast(TextIO, os.fdopen(number, mode, encoding="utf-8", closefd=False))
