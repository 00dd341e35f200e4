"""Files that the bot reads again while it runs, whenever they change."""

from __future__ import annotations

from pathlib import Path


class WatchedFile:
    """The state of a file at the last look; None as the path is a file that never changes."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._seen = self._stamp()

    def has_changed(self) -> bool:
        """Return whether the file has changed since the last call, or since this object was created."""
        stamp = self._stamp()
        if stamp == self._seen:
            return False
        self._seen = stamp
        return True

    def _stamp(self) -> tuple[int, int, int] | None:
        """Return what differs after every change of the file; None if it is not there."""
        try:
            status = self._path.stat() if self._path else None
        except OSError:
            return None
        return (status.st_mtime_ns, status.st_size, status.st_ino) if status else None
