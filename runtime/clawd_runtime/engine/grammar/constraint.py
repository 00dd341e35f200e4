"""The engine's side of grammars: a constraint is a grammar in a process of its own."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from clawd_runtime.engine.grammar.gbnf import LONGEST_GRAMMAR
from clawd_runtime.engine.grammar.wire import (
    ACCEPT,
    ALLOW,
    LARGEST_PACKET,
    READY,
    REFUSED,
    TOKEN,
    YES,
)
from clawd_runtime.errors import BusyError, EngineError, RequestError

_log = logging.getLogger("clawd.engine")

# More than the processor time that an operation may take: the host may be busy.
_ANSWER_SECONDS = 5.0
_START_SECONDS = 30.0


class Constraint:
    """A grammar and its state within one answer. Used by one thread at a time; `close` frees it."""

    def __init__(self, process: socket.socket, closed: Callable[[], None]) -> None:
        self._process, self._closed = process, closed
        self._open = True

    def next(self, token: int) -> Any:
        """Accept `token` and return `None`, or return for each token whether it is allowed instead.

        Raises:
            RequestError: The grammar takes too much time or memory.

        """
        reply = self._ask(TOKEN.pack(ALLOW, token))
        if reply == YES:
            return None
        bits = np.frombuffer(reply, np.uint8, offset=1)
        return np.unpackbits(bits, bitorder="little").astype(bool)

    def accept(self, token: int) -> None:
        """Accept `token`, which `next` has returned as allowed."""
        try:
            self._process.send(TOKEN.pack(ACCEPT, token))
        except OSError:
            raise RequestError(_TOO_MUCH) from None

    def _ask(self, packet: bytes) -> bytes:
        try:
            self._process.send(packet)
            reply = self._process.recv(LARGEST_PACKET)
        except OSError:
            reply = b""
        if not reply:
            raise RequestError(_TOO_MUCH)
        return reply

    def close(self) -> None:
        """End the process; do nothing if it has been ended."""
        if self._open:
            self._open = False
            self._process.close()
            self._closed()


_TOO_MUCH = "the grammar takes too much time or memory after this text"


class Grammars:
    """A factory of constraints for the model in the file `model`, with at most `most` at once.

    The process that it forks them from is started with the first one.
    """

    def __init__(self, model: str, most: int) -> None:
        self._model = model
        self._free = threading.BoundedSemaphore(most)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def constraint(self, grammar: str, field: str) -> Constraint:
        """Return a constraint for `grammar`, the value of the request's `field`. Blocks for milliseconds.

        Raises:
            RequestError: The grammar is invalid or takes too much time or memory.
            BusyError: There are too many constrained answers.

        """
        text = grammar.encode(errors="replace")
        if len(text) > LONGEST_GRAMMAR or not text.strip() or b"\0" in text:
            why = "too long" if len(text) > LONGEST_GRAMMAR else "empty, or not text"
            raise RequestError(f"{field}: {why}", param=field)
        if not self._free.acquire(blocking=False):
            raise BusyError("engine busy: too many constrained answers", retry_after=2)
        try:
            process = self._forked()
        except BaseException:
            self._free.release()
            raise
        constraint = Constraint(process, self._free.release)
        try:
            self._compile(process, text, field)
        except BaseException:
            constraint.close()
            raise
        return constraint

    def close(self) -> None:
        """End the process from which constraints are forked; those in use continue."""
        with self._lock:
            self._end()

    def _compile(self, process: socket.socket, text: bytes, field: str) -> None:
        try:
            process.send(text)
            reply = process.recv(LARGEST_PACKET)
        except OSError:
            reply = b""
        if reply == READY:
            process.settimeout(_ANSWER_SECONDS)
            return
        why = reply.removeprefix(REFUSED).decode(errors="replace")
        raise RequestError(
            f"{field}: invalid grammar: {why or 'it takes too much time or memory'}", param=field
        )

    def _forked(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(_START_SECONDS)
        with theirs:
            for last in (False, True):
                try:
                    with self._lock:
                        control = self._started()
                        socket.send_fds(control, [b"f"], [theirs.fileno()])
                    return ours
                except OSError as error:
                    # It has been ended, by a person or for its memory: start another one.
                    _log.warning("the process for grammars has ended: %s", error)
                    with self._lock:
                        self._end()
                    if last:
                        ours.close()
                        raise EngineError("cannot start the process for grammars") from error
        raise AssertionError("unreachable")

    def _started(self) -> socket.socket:
        if self._process is not None and self._process.poll() is not None:
            self._end()
        if self._control is None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "clawd_runtime.engine.grammar.worker", self._model],
                    stdin=theirs.fileno(),
                    env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
                )
            self._control = ours
        return self._control

    def _end(self) -> None:
        process, self._process = self._process, None
        control, self._control = self._control, None
        if control is not None:
            control.close()
        if process is not None:
            process.kill()
            process.wait()
