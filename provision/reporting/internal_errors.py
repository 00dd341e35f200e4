"""Internal errors: the message for the user, and the log with the traceback."""

from __future__ import annotations

from pathlib import Path

from inventory.errors import ClawdError
from inventory.reading.text import is_utf8, readable
from provision.local.run_log import RunLog


def unforeseen(error: Exception, log: Path | None) -> ClawdError:
    """Return the error to show for an unexpected one: a refusal of this machine, or an internal error."""
    details = f"the details are in {log}" if log else ""
    if isinstance(error, OSError) and error.filename is not None:
        return ClawdError(
            f"{error.filename}: {error.strerror}",
            advice=f"make it readable and writable, or use another path; {details}".rstrip("; "),
        )
    if isinstance(error, UnicodeEncodeError) and not is_utf8(error.object):
        return ClawdError(
            f"cannot use a name that is not UTF-8: {readable(error.object)!r}",
            advice=f"rename the file, or correct the variable it comes from; {details}".rstrip("; "),
        )
    return ClawdError(f"internal error ({type(error).__name__}: {error})", advice=details)


def kept_in_log(error: Exception) -> Path | None:
    """Write the traceback of an unexpected error into a separate log; return its path, or `None`."""
    try:
        with RunLog("internal-error") as log:
            log.exception("the command failed")
            return log.path
    except ClawdError:
        return None
