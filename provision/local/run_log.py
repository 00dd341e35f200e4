"""The log of one run: a private file on the laptop with details that the screen does not show."""

from __future__ import annotations

import logging
import os
import re
from collections import defaultdict, deque
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from inventory.errors import ToolError

_HOST = re.compile(
    r"^\s*(?:\x1b\[[0-9;]*m)*\[(?P<host>[^\]]+)\](?:\x1b\[[0-9;]*m)*\s*(?P<text>.*)$", re.DOTALL
)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# Without a handler paramiko prints the traceback of a broken connection to the terminal.
_LEVELS = {"pyinfra": logging.INFO, "clawd": logging.INFO, "paramiko": logging.WARNING}
KEPT_LINES = 12
KEPT_FILES = 50


def log_folder() -> Path:
    """Return `$XDG_STATE_HOME/clawd-provision/log`, by default under `~/.local/state`."""
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "clawd-provision" / "log"


class RunLog(logging.Handler):
    """A handler that writes the log records of pyinfra, paramiko and this program to a file of mode 0600.

    It keeps the last lines about every host. Raises `ToolError` when the file cannot be created.
    """

    def __init__(self, command: str, folder: Path | None = None) -> None:
        folder = folder or log_folder()
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        self.path = folder / f"{stamp}-{command.replace(' ', '-')}.log"
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for old in sorted(folder.glob("*.log"))[: -KEPT_FILES + 1]:
                old.unlink(missing_ok=True)
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as refused:
            raise ToolError(
                f"cannot write the log of this run to {folder}: {refused.strerror}",
                advice="set XDG_STATE_HOME to a folder that you may write to",
            ) from refused
        # Python flushes every registered handler at exit, so register only after the file is open.
        super().__init__(logging.INFO)
        self._file = os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace")
        self._tails: dict[str, deque[str]] = defaultdict(lambda: deque(maxlen=KEPT_LINES))
        self.setFormatter(logging.Formatter("%(asctime)s [%(levelname)s] %(message)s"))
        self._loggers: dict[logging.Logger, tuple[int, bool]] = {}
        for name, level in _LEVELS.items():
            logger = logging.getLogger(name)
            self._loggers[logger] = (logger.level, logger.propagate)
            logger.setLevel(level)
            logger.addHandler(self)
            logger.propagate = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record and keep it for the host it is about."""
        text = _COLOUR.sub("", self.format(record))
        self._file.write(text + "\n")
        self._file.flush()
        about = _HOST.match(record.getMessage())
        if about and record.levelno >= logging.WARNING:
            self._tails[about["host"]].append(_COLOUR.sub("", about["text"]).strip())

    def exception(self, message: str) -> None:
        """Write the traceback of the exception being handled."""
        logging.getLogger("clawd").exception(message)

    def tail(self, host: str) -> tuple[str, ...]:
        """Return the last warnings and errors about a host."""
        return tuple(self._tails[host])

    def close(self) -> None:
        """Remove the handler and close the file."""
        for logger, (level, propagate) in self._loggers.items():
            logger.removeHandler(self)
            logger.setLevel(level)
            logger.propagate = propagate
        self._file.close()
        super().close()
