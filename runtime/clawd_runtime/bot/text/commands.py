"""Commands in messages."""

from __future__ import annotations

LONGEST_COMMAND = 33
STOP = "stop"
IN_ORDER = "new"
"""The command that waits for the answers before it: it concerns them."""


def command_of(text: str) -> str:
    """Return the command of a text, in lower case and without its slash; empty if it is none.

    A path, a comment or "/ or" is no command.
    """
    first = text.strip().split(maxsplit=1)[0] if text.strip().startswith("/") else ""
    named = first[1:].replace("_", "").isalnum() and len(first) <= LONGEST_COMMAND
    return first[1:].lower() if named else ""
