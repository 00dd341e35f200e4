"""Errors that no command foresaw: what a person is told of them, and where the whole of it is kept."""

from __future__ import annotations

from pathlib import Path

from inventory.errors import ClawdError
from inventory.text import is_utf8, readable
from provision.runlog import RunLog


def unforeseen(error: Exception, log: Path | None) -> ClawdError:
    """Return the message for an unexpected error: a refusal of this machine, or an internal error."""
    details = f"the details are in {log}" if log else ""
    if isinstance(error, OSError) and error.filename is not None:
        return ClawdError(
            f"{error.filename}: {error.strerror}",
            advice=f"see that it can be read and written there, or name another place; {details}".rstrip(
                "; "
            ),
        )
    if isinstance(error, UnicodeEncodeError) and not is_utf8(error.object):
        return ClawdError(
            f"a name that is not UTF-8 cannot be used: {readable(error.object)!r}",
            advice=f"rename the file, or correct the variable it comes from; {details}".rstrip("; "),
        )
    return ClawdError(f"internal error ({type(error).__name__}: {error})", advice=details)


def kept_in_log(error: Exception) -> Path | None:
    """Writes the traceback of what no command expected into a log of its own; None where that cannot be."""
    try:
        with RunLog("fault") as log:
            log.exception("the command failed")
            return log.path
    except ClawdError:
        return None
