"""An SSH connection that detects when it is dead.

A network can fail without either side noticing. A keepalive request is sent when the host has been silent for
`ASKED_AFTER_S`, and the connection is closed after `DEAD_AFTER_S` of silence, also behind a jump host. Time
in which this program itself could not receive does not count.
"""

from __future__ import annotations

import socket
import time
from typing import Any

import gevent
import gevent.lock
import paramiko
from paramiko.common import cMSG_GLOBAL_REQUEST

ASKED_AFTER_S = 6.0
DEAD_AFTER_S = 25.0
_LOOK_EVERY_S = 1.0


class HeardSocket:
    """A socket, or an object like one, that counts received bytes."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.received = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def recv(self, size: int) -> bytes:
        """Receive as the socket does."""
        data: bytes = self._inner.recv(size)
        self.received += len(data)
        return data


class WatchedTransport(paramiko.Transport):
    """A transport that closes itself when the other side is dead. `lost` is then the reason.

    Args:
        connection: a connected socket, or a channel of a jump host.

    """

    proves_host_keys = True
    """Whether a host stays known by a key that its sshd stops offering (`provision.ssh.host_key_proof`)."""

    def __init__(self, connection: Any) -> None:
        self._heard = HeardSocket(connection)
        super().__init__(self._heard)  # type: ignore[arg-type]
        self.lost = ""
        self.behind: WatchedTransport | None = None
        """The connection to the jump host that this one goes through."""
        self.host_key_algorithms: tuple[str, ...] = tuple(super().preferred_keys)
        self._asking = gevent.lock.BoundedSemaphore(1)
        self._unanswered = False
        self._watching: Any = None

    @property
    def preferred_keys(self) -> tuple[str, ...]:
        """Return the host key algorithms that the server is offered."""
        return self.host_key_algorithms

    def watch(self) -> None:
        """Begin to send keepalive requests."""
        self._watching = gevent.spawn(self._watch)

    def close(self) -> None:
        """Close the connection and the one to its jump host."""
        if self._watching is not None and self._watching is not gevent.getcurrent():
            self._watching.kill(block=False)
        super().close()
        if self.behind is not None:
            self.behind.close()

    def global_request(self, kind: str, data: Any = None, wait: bool = True) -> Any:
        """Send a request as paramiko does, one at a time, because replies have no id."""
        if not wait:
            return super().global_request(kind, data, wait)
        with self._asking:
            return super().global_request(kind, data, wait)

    def _watch(self) -> None:
        silent, asked, received, before = 0.0, False, self._heard.received, time.monotonic()
        while self.is_active():
            gevent.sleep(_LOOK_EVERY_S)
            now = time.monotonic()
            # Time in which this program slept or was busy is not silence of the host.
            silent += min(now - before, 2 * _LOOK_EVERY_S)
            before = now
            if self._heard.received != received:
                received, silent, asked = self._heard.received, 0.0, False
            if silent >= DEAD_AFTER_S:
                self._lose(f"it was silent for {DEAD_AFTER_S:.0f} s")
                return
            if silent >= ASKED_AFTER_S and not asked:
                asked = True
                # Sending may block when the network accepts no more data.
                gevent.spawn(self._ask)

    def _ask(self) -> None:
        if not self._asking.acquire(blocking=False):
            return
        request = paramiko.Message()
        request.add_byte(cMSG_GLOBAL_REQUEST)
        request.add_string("keepalive@openssh.com")
        request.add_boolean(True)
        self._unanswered = True
        try:
            self._send_user_message(request)  # type: ignore[attr-defined]
        except (OSError, EOFError, paramiko.SSHException):
            self._answered()

    def _answered(self) -> bool:
        """Return whether a reply was to a keepalive request."""
        if self._unanswered:
            self._unanswered = False
            self._asking.release()
            return True
        return False

    def _parse_request_success(self, message: paramiko.Message) -> None:
        if not self._answered():
            super()._parse_request_success(message)  # type: ignore[misc]

    def _parse_request_failure(self, message: paramiko.Message) -> None:
        if not self._answered():
            super()._parse_request_failure(message)  # type: ignore[misc]

    def _lose(self, why: str) -> None:
        self.lost = why
        self.saved_exception = paramiko.SSHException(why)
        self.active = False
        self.packetizer.close()
        for channel in list(self._channels.values()):  # type: ignore[attr-defined]
            channel._unlink()
        self._answered()
        gevent.spawn(self.close)


def prepared(connection: socket.socket) -> socket.socket:
    """Return `connection` with the same timeout in the kernel, if the system supports it."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(DEAD_AFTER_S * 1000))
    return connection
