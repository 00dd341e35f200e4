"""Logging to standard output, one line per record: `2026-01-31T12:00:00.123Z [INFO] message`.

Line breaks in a message or traceback are written as a literal backslash-n, so that one record stays one
line for journald, grep and a log shipper.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime


class LineFormatter(logging.Formatter):
    """A formatter that renders a record with its traceback as one line with a UTC time in ISO 8601."""

    def format(self, record: logging.LogRecord) -> str:
        """Return `record` as one line."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        text = super().format(record).rstrip("\n").replace("\n", "\\n")
        return f"{time.removesuffix('+00:00')}Z [{record.levelname}] {text}"


def configure(level: int = logging.INFO) -> None:
    """Send every record of `level` and above to standard output, replacing earlier handlers."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(LineFormatter("%(message)s"))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
