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
    """Yield a bound socket at `path` with mode 0660, and remove the file after the block.

    A file that a killed engine left behind is replaced.

    Raises:
        SettingsError: `path` is in use by a running engine, is not a socket, or cannot be created.

    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        try:
            _remove_stale(path)
            before = os.umask(_FORBIDDEN_TO_OTHERS)
            try:
                listener.bind(str(path))
            finally:
                os.umask(before)
            created = path.stat()
        except OSError as error:
            raise SettingsError(
                f"cannot create the socket {path}: {error.strerror}",
                advice="check that its folder exists and is writable for the engine's user",
            ) from error
        try:
            yield listener
        finally:
            # Another engine may have taken over the path while this one drained.
            if path.exists() and os.path.samestat(path.stat(), created):
                path.unlink()


def _remove_stale(path: Path) -> None:
    if not path.exists():
        return
    if not stat.S_ISSOCK(path.stat().st_mode):
        raise SettingsError(
            f"cannot listen on {path}: it exists and is not a socket",
            advice="remove it, or change the setting 'socket'",
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        else:
            raise SettingsError(
                f"cannot listen on {path}: another engine listens there",
                advice="stop it first, or change the setting 'socket'",
            )


@contextmanager
def tcp_socket(host: str, port: int) -> Iterator[socket.socket]:
    """Yield a bound TCP socket; `port` 0 takes any free port.

    Raises:
        SettingsError: The address is in use or does not belong to this host.

    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise SettingsError(f"cannot listen on {host}:{port}: {error.strerror}") from error
        yield listener
