"""The sockets on which the engine listens."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clawd_runtime.errors import SettingsError

# Read and write for the user and the group: the bot is in the group.
_FORBIDDEN_TO_OTHERS = 0o117


@contextmanager
def unix_socket(path: Path) -> Iterator[socket.socket]:
    """A bound socket at `path` with mode 0660; the file goes with the block.

    A file that a killed engine left behind is replaced.

    Raises:
        SettingsError: `path` is in use by a living engine, is no socket, or cannot be made.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        try:
            _remove_stale(path)
            before = os.umask(_FORBIDDEN_TO_OTHERS)
            try:
                listener.bind(str(path))
            finally:
                os.umask(before)
            made = path.stat()
        except OSError as error:
            raise SettingsError(
                f"cannot make the socket {path}: {error.strerror}",
                advice="its folder must exist and be writable for the engine's user",
            ) from error
        try:
            yield listener
        finally:
            # Another engine may have taken the path over while this one drained.
            if path.exists() and os.path.samestat(path.stat(), made):
                path.unlink()


def _remove_stale(path: Path) -> None:
    if not path.exists():
        return
    if not stat.S_ISSOCK(path.stat().st_mode):
        raise SettingsError(
            f"{path} exists and is no socket", advice="remove it, or change the setting 'socket'"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        else:
            raise SettingsError(
                f"another engine listens on {path}", advice="end it first, or change the setting 'socket'"
            )


@contextmanager
def tcp_socket(host: str, port: int) -> Iterator[socket.socket]:
    """A bound TCP socket; `port` 0 takes any free one.

    Raises:
        SettingsError: the address is in use or not ours.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise SettingsError(f"cannot listen on {host}:{port}: {error.strerror}") from error
        yield listener
