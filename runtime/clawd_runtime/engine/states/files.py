"""The files of saved states: one thread writes and deletes, another one reads.

Every model has a folder, so that states are found again after a switch to another model and back. The threads
decide nothing: `store` does, and receives each result by calling `collect`.
"""

from __future__ import annotations

import logging
import os
import queue
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from clawd_runtime.engine.states import file_format
from clawd_runtime.engine.states.file_format import StateFileError, StateFileHeader, StateFileStart, Stopped
from clawd_runtime.engine.states.identity import model_identity, weights_digest
from clawd_runtime.engine.states.prefixes import WIDTH, Tokens
from clawd_runtime.engine.states.room import StateBuffer

_log = logging.getLogger("clawd.engine")

_Result = TypeVar("_Result")
_Orders = queue.SimpleQueue[Callable[[], None] | None]
SUFFIX = ".state"
NOTES = "weights.json"
LEAST_FREE = 512 << 20
"""Bytes of the file system that are left to others."""


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file of the folder. Without a `start`, it belongs to another model."""

    path: Path
    size: int
    used: float
    start: StateFileStart | None


@dataclass(frozen=True, slots=True)
class StateHeader:
    """What a file says about its state, see `StateFileHeader`."""

    size: int
    conversation: str
    shared: bool


@dataclass(frozen=True, slots=True)
class StateOrigin:
    """The model whose states are kept: its file, and the parameters of its context."""

    model: Path
    parameters: dict[str, object]


class StateFiles:
    """The states of a model in `folder`."""

    def __init__(self, folder: Path, source: StateOrigin) -> None:
        self._folder, self._source = folder, source
        self._notify: Callable[[], None] = lambda: None
        self._changes: _Orders = queue.SimpleQueue()
        self._reads: _Orders = queue.SimpleQueue()
        self._results: deque[Callable[[], None]] = deque()
        self._stopping = self._reported = False
        self._model = ""
        self._own = folder
        self._threads = [
            threading.Thread(target=self._work, args=(orders,), name=f"state-{name}", daemon=True)
            for name, orders in (("writer", self._changes), ("reader", self._reads))
        ]

    # --- for the thread that decides ----------------------------------------------------------------

    def open(self, done: Callable[[list[FoundFile] | None], None], notify: Callable[[], None]) -> None:
        """Start the threads, and find the files; `None` if the folder cannot be used.

        `notify` is called from the threads when `collect` has news.
        """
        self._notify = notify
        for thread in self._threads:
            thread.start()
        self._changes.put(lambda: self._answer(done, self._find))

    def write(
        self, tokens: Tokens, header: StateHeader, state: StateBuffer, done: Callable[[Path | None], None]
    ) -> None:
        """Write a state; `done` receives its path, or `None` if that failed."""
        self._changes.put(lambda: self._answer(done, lambda: self._write(tokens, header, state)))

    def read(self, path: Path, tokens: Tokens, done: Callable[[StateBuffer | None], None]) -> None:
        """Read the state of `tokens`; `done` receives `None` if it is damaged, and the file is removed."""
        self._reads.put(lambda: self._answer(done, lambda: self._read(path, tokens)))

    def delete(self, path: Path) -> None:
        """Delete a file."""
        self._changes.put(lambda: self._remove(path))

    def touch(self, path: Path, used: float) -> None:
        """Note in the file when its state was last used."""
        self._changes.put(lambda: _touch(path, used))

    def collect(self) -> None:
        """Call `done` of everything that has ended."""
        while self._results:
            self._results.popleft()()

    def close(self, seconds: float) -> None:
        """Carry out what is queued, but stop after this time, in the middle of a file if necessary."""
        until = time.monotonic() + seconds
        self._changes.put(None)
        self._reads.put(None)
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, until - time.monotonic()))
        self._stopping = True
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    # --- in the threads -----------------------------------------------------------------------------

    def _work(self, orders: _Orders) -> None:
        while (order := orders.get()) is not None:
            if self._stopping:
                continue
            try:
                order()
            except Stopped:
                continue
            except Exception:
                _log.exception("internal error: saved states")

    def _answer(self, done: Callable[[_Result | None], None], work: Callable[[], _Result | None]) -> None:
        result = None
        try:
            result = work()
        finally:
            self._results.append(lambda: done(result))
            self._notify()

    def _stopped(self) -> bool:
        return self._stopping

    def _find(self) -> list[FoundFile] | None:
        started = time.monotonic()
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            weights = weights_digest(self._source.model, self._folder / NOTES, self._stopped)
            self._model = model_identity(weights, self._source.parameters)
            self._own = self._folder / self._model[:32]
            self._own.mkdir(mode=0o700, exist_ok=True)
            found = list(self._found())
        except OSError as error:
            _log.error("cannot keep states of conversations in %s: %s", self._folder, error.strerror)
            return None
        own = sum(file.start is not None for file in found)
        _log.info(
            "states of %d conversations found in %s after %.2f s, %d of other models",
            *(own, self._own, time.monotonic() - started, len(found) - own),
        )
        return found

    def _found(self) -> Iterator[FoundFile]:
        for path in sorted(self._folder.glob("*/*")):
            if path.suffix == ".part":
                self._remove(path)  # of a process that was killed
            elif path.suffix == SUFFIX and (file := self._described(path)) is not None:
                yield file

    def _described(self, path: Path) -> FoundFile | None:
        try:
            status = path.stat()
            own = path.parent == self._own
            start = file_format.read_beginning(path, self._model) if own else None
        except (StateFileError, OSError) as error:
            self._refuse(path, error)
            return None
        return FoundFile(path, status.st_size, status.st_mtime, start)

    def _write(self, tokens: Tokens, header: StateHeader, state: StateBuffer) -> Path | None:
        start = StateFileStart(
            StateFileHeader(
                model=self._model,
                tokens=len(tokens) // WIDTH,
                size=header.size,
                conversation=header.conversation,
                shared=header.shared,
            ),
            tokens,
        )
        path = self._own / f"{secrets.token_hex(16)}{SUFFIX}"
        try:
            space = os.statvfs(self._own)
            free = space.f_bavail * space.f_frsize
            if free < LEAST_FREE + start.header.size:
                self._report(f"only {free >> 20} MiB are free, and {LEAST_FREE >> 20} are left to others")
                return None
            file_format.write(path, start, state, self._stopped)
        except OSError as error:
            self._report(error.strerror or str(error))
            return None
        self._reported = False
        return path

    def _report(self, reason: str) -> None:
        """Log why states are not written, once until one is."""
        if not self._reported:
            _log.warning("cannot save states of conversations in %s: %s", self._own, reason)
        self._reported = True

    def _read(self, path: Path, tokens: Tokens) -> StateBuffer | None:
        try:
            start, state = file_format.read(path, self._model, self._stopped)
            if start.tokens != tokens:
                raise StateFileError("its tokens have changed")
        except FileNotFoundError:
            return None  # deleted in the meantime
        except (StateFileError, OSError) as error:
            self._refuse(path, error)
            return None
        return state

    def _refuse(self, path: Path, error: StateFileError | OSError) -> None:
        reason = error.strerror if isinstance(error, OSError) else error
        _log.warning("removed the saved state %s: %s", path, reason)
        self._remove(path)

    def _remove(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            _log.warning("cannot delete %s: %s", path, error.strerror)


def _touch(path: Path, used: float) -> None:
    try:
        os.utime(path, (used, used))
    except FileNotFoundError:
        return
