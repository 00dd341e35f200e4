"""What commands came to, and errors, as JSON: for programs, with every field always there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inventory.errors import ClawdError, InventoryError

if TYPE_CHECKING:
    from provision.pipeline import Outcome


def outcome_json(outcome: Outcome, warnings: Sequence[str] = (), log: Path | None = None) -> dict[str, Any]:
    """Return an outcome; the parts that a command does not have are null."""
    return {
        "exit": int(outcome.exit),
        "message": outcome.message,
        "warnings": list(warnings),
        "log": str(log) if log else None,
        "unreachable": _unreachable(outcome),
        "plan": outcome.plan.to_json() if outcome.plan else None,
        "result": outcome.result.to_json() if outcome.result else None,
        "verification": outcome.verification.to_json() if outcome.verification else None,
    }


def _unreachable(outcome: Outcome) -> dict[str, str]:
    found = {host: str(error) for host, error in (outcome.unreachable or {}).items()}
    return found | (outcome.verification.unreachable if outcome.verification else {})


def error_json(error: ClawdError) -> dict[str, Any]:
    """What ended a command too early; `mistakes` are those of an inventory, each with its place."""
    mistakes = error.mistakes if isinstance(error, InventoryError) else ()
    placed = [
        {
            "file": mistake.file,
            "line": mistake.line,
            "column": mistake.column,
            "message": mistake.problem,
            "advice": mistake.advice,
        }
        for mistake in mistakes
    ]
    return {"exit": error.exit_code, "error": error.message, "advice": error.advice, "mistakes": placed}


def interrupted_json(exit_code: int) -> dict[str, Any]:
    """A command that somebody ended, in the form of an error."""
    return {"exit": exit_code, "error": "interrupted", "advice": "", "mistakes": []}
