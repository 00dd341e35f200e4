"""The outcome of a command as JSON, for programs: every command prints every field, however it ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inventory.errors import ClawdError, ConnectError, InventoryError

if TYPE_CHECKING:
    from provision.run import Outcome
    from provision.run_journal import JournalEntry


def outcome_json(outcome: Outcome, warnings: Sequence[str] = (), log: Path | None = None) -> dict[str, Any]:
    """Return an outcome; parts that a command does not have are null."""
    verification = outcome.verification
    return _fields(int(outcome.exit), warnings, log) | {
        "message": outcome.message,
        "unreachable": {host: str(error) for host, error in (outcome.unreachable or {}).items()}
        | (verification.unreachable if verification else {}),
        "plan": outcome.plan.to_json() if outcome.plan else None,
        "result": outcome.result.to_json() if outcome.result else None,
        "verification": verification.to_json() if verification else None,
    }


def history_json(
    entries: Mapping[str, Sequence[JournalEntry]],
    unreachable: Mapping[str, ConnectError],
    warnings: Sequence[str] = (),
    log: Path | None = None,
) -> dict[str, Any]:
    """Return the runs of each host from its journal, and the hosts that cannot be reached."""
    runs = {host: [asdict(entry) for entry in entries_there] for host, entries_there in entries.items()}
    return _fields(1 if unreachable else 0, warnings, log) | {
        "unreachable": {host: str(error) for host, error in unreachable.items()},
        "history": runs,
    }


def error_json(error: ClawdError, warnings: Sequence[str] = (), log: Path | None = None) -> dict[str, Any]:
    """Return the error that ended a command; `mistakes` are those of an inventory, each with its position."""
    mistakes = error.mistakes if isinstance(error, InventoryError) else ()
    return _fields(error.exit_code, warnings, log) | {
        "error": error.message,
        "advice": error.advice,
        "mistakes": [
            {
                "file": mistake.file,
                "line": mistake.line,
                "column": mistake.column,
                "message": mistake.problem,
                "advice": mistake.advice,
            }
            for mistake in mistakes
        ],
        "unreachable": dict(error.unreachable),
    }


def interrupted_json(exit_code: int, warnings: Sequence[str] = (), log: Path | None = None) -> dict[str, Any]:
    """Return the outcome of a command that was interrupted, in the form of an error."""
    return _fields(exit_code, warnings, log) | {"error": "interrupted"}


def _fields(exit_code: int, warnings: Sequence[str], log: Path | None) -> dict[str, Any]:
    """Return every field with its value for commands that do not have it."""
    return {
        "exit": exit_code,
        "message": "",
        "error": None,
        "advice": "",
        "mistakes": [],
        "warnings": list(warnings),
        "log": str(log) if log else None,
        "unreachable": {},
        "plan": None,
        "result": None,
        "verification": None,
        "history": None,
    }
