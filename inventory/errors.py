"""The one tree of errors.

Every error that is shown to the user without a traceback derives from `ClawdError`. Any other exception is an
internal error; its traceback is kept in a log.

    ClawdError                      exit code 1
    ├── InventoryError              mistakes in the user's files, all at once
    ├── SecretError                 a secret that cannot be read or decrypted
    ├── ToolError                   a program or file is missing on the laptop
    ├── SandboxError                a sandbox host cannot be created or removed
    ├── ArtifactError               a wheel, release or model cannot be built or is corrupt
    ├── ConnectError                a host cannot be reached or its key is not the known one
    ├── HostError                   a step on a host failed
    │   └── CapacityError           the host is too small for what is placed on it
    ├── LockHeldError               another run is applying            exit code 5
    └── VerifyError                 a check failed on a host
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


def with_hint(message: str, advice: str) -> str:
    """Return a message with its hint on a line of its own; without advice, the message alone."""
    return f"{message}\nhint: {advice}" if advice else message


class ClawdError(Exception):
    """An error with a message for the user: what failed, where and why.

    `advice` says what to do next and is printed as `hint: …` below the message; empty prints no hint.
    """

    exit_code = 1

    def __init__(self, message: str, *, advice: str = "") -> None:
        super().__init__(message)
        self.unreachable: Mapping[str, str] = {}
        """Hosts that could not be reached, with the reason."""
        self.message = message
        self.advice = advice

    def __str__(self) -> str:
        return with_hint(self.message, self.advice)


def message_of(error: BaseException) -> str:
    """Return the message of an error; that of an internal error begins with its class."""
    return str(error) if isinstance(error, ClawdError) else f"{type(error).__name__}: {error}"


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """One mistake in a file: its position, what is wrong, and what would be right.

    `line` and `column` count from 1.
    """

    file: str
    line: int
    column: int
    problem: str
    advice: str

    def __str__(self) -> str:
        return with_hint(f"{self.place}: {self.problem}", self.advice)

    @property
    def place(self) -> str:
        """Return `file:line:column`."""
        return f"{self.file}:{self.line}:{self.column}"


class InventoryError(ClawdError):
    """Every mistake found in the user's inventory, in file order."""

    def __init__(self, mistakes: tuple[Mistake, ...]) -> None:
        self.mistakes = tuple(sorted(mistakes))
        super().__init__("\n".join(str(mistake) for mistake in self.mistakes))


class SecretError(ClawdError):
    """A secret cannot be read, decrypted or encrypted. Never carries the value."""


class ToolError(ClawdError):
    """A program or file that the laptop needs is missing or unusable."""


class SandboxError(ClawdError):
    """A sandbox host cannot be created, reached or removed."""


class ArtifactError(ClawdError):
    """A wheel, release or model cannot be built or fetched, or does not match its digest."""


class ConnectError(ClawdError):
    """A host cannot be reached, refuses the login, or presents a key that is not the known one."""


UNREADABLE = "log in to the host and check its disk (`df -h`, `dmesg`), then run the command again"
"""Hint for a file of a host that root cannot read or write."""


class HostError(ClawdError):
    """A step on a host failed. The message names host, component, operation and output."""


class CapacityError(HostError):
    """A host is too small for what the inventory places on it."""


class LockHeldError(ClawdError):
    """Another run holds the lock of a host."""

    exit_code = 5


class VerifyError(ClawdError):
    """A check failed on a host."""
