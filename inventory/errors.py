"""The one tree of errors.

Everything a person may be shown without a traceback derives from `ClawdError`;
anything else that escapes is a fault of ours and keeps its traceback in a log.

    ClawdError                      exit code 1
    ├── InventoryError              mistakes in the user's files, all at once
    ├── SecretError                 a secret that cannot be read or decrypted
    ├── ToolError                   something is missing on the laptop
    ├── SandboxError                a throwaway host cannot be made or removed
    ├── ArtifactError               a wheel, release or model cannot be made or is corrupt
    ├── ConnectError                a host cannot be reached or is not who it should be
    ├── HostError                   a step on a host failed
    │   └── CapacityError           the host is too small for what is placed on it
    ├── LockHeldError               someone else is applying           exit code 5
    └── VerifyError                 a check does not hold on a host
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


class ClawdError(Exception):
    """A message for the operator: what is wrong, where, why, and what to do.

    `advice` is a sentence telling what to do next; empty when the message says it.
    """

    exit_code = 1

    def __init__(self, message: str, *, advice: str = "") -> None:
        super().__init__(message)
        self.unreachable: Mapping[str, str] = {}
        """Hosts that could not be reached, by name, and why."""
        self.message = message
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.message}\n  → {self.advice}" if self.advice else self.message


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """One mistake in a file: where it stands, what is wrong, what would be right.

    `line` and `column` count from 1.
    """

    file: str
    line: int
    column: int
    problem: str
    advice: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.problem}; {self.advice}"


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
    """A throwaway host cannot be made, reached or removed."""


class ArtifactError(ClawdError):
    """A wheel, release or model cannot be made, fetched, or does not match its digest."""


class ConnectError(ClawdError):
    """A host cannot be reached, refuses us, or shows a key that is not the known one."""


class HostError(ClawdError):
    """A step on a host failed. The message names host, component, operation and output."""


class CapacityError(HostError):
    """A host is too small for what the inventory places on it."""


class LockHeldError(ClawdError):
    """Another run holds the lock of a host."""

    exit_code = 5


class VerifyError(ClawdError):
    """A check that should hold on a host does not."""
