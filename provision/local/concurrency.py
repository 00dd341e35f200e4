"""Cooperative blocking calls, which pyinfra needs, and functions that run for several hosts at once."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import TypeVar

import gevent
from gevent import monkey
from gevent.hub import Hub
from gevent.pool import Pool
from gevent.select import select

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


def enabled() -> bool:
    """Return whether `enable` has been called."""
    return bool(monkey.is_module_patched("socket"))


def enable() -> None:
    """Patch sockets, threads and subprocesses for gevent, once. Call it before anything opens sockets."""
    if not enabled():
        with _entry_points_read_once():
            monkey.patch_all()
        os.close = _closing_folders_at_once(os.close)  # type: ignore[assignment]
        # Ctrl-C still reaches the main greenlet, but without a traceback of the greenlet that was running.
        Hub.NOT_ERROR = (*Hub.NOT_ERROR, KeyboardInterrupt)


@contextmanager
def _entry_points_read_once() -> Iterator[None]:
    """Read the entry points of installed packages once: gevent asks for plugins at each of some 25 events.

    Each time `importlib.metadata` reads files of every package, altogether 0.2 s of every command.
    """
    read, found = metadata.entry_points, metadata.entry_points()
    metadata.entry_points = lambda **chosen: found.select(**chosen)  # type: ignore[assignment]
    try:
        yield
    finally:
        metadata.entry_points = read


def _closing_folders_at_once(deferred: Callable[[int], None]) -> Callable[[int], None]:
    """Return an `os.close` that closes folders immediately.

    gevent's `os.close` (since 25.8.1) defers closing anything but regular files until other greenlets have
    run. Removing a tree would keep all its folders open. No greenlet can wait for a folder, so deferring is
    useless.
    """
    at_once: Callable[[int], None] = monkey.get_original("os", "close")

    def close(fd: int) -> None:
        (at_once if stat.S_ISDIR(os.fstat(fd).st_mode) else deferred)(fd)

    return close


def outcomes(items: Iterable[K], function: Callable[[K], T], at_once: int = 100) -> dict[K, T | Exception]:
    """Call `function` for all items concurrently; return its results or exceptions in the items' order."""

    def guarded(item: K) -> T | Exception:
        try:
            return function(item)
        except Exception as error:
            return error

    pool = Pool(at_once)
    running = {item: pool.spawn(guarded, item) for item in items}
    gevent.joinall(list(running.values()))
    return {item: greenlet.get() for item, greenlet in running.items()}


def for_each(items: Iterable[K], function: Callable[[K], T], at_once: int = 100) -> dict[K, T]:
    """Call `function` for all items concurrently and return its results.

    Raises the exception of the first item, in order, for which it raised one, after all calls have ended.
    """
    done: dict[K, T] = {}
    for item, outcome in outcomes(items, function, at_once).items():
        if isinstance(outcome, Exception):
            raise outcome
        done[item] = outcome
    return done


def typed_line() -> str:
    """Return a line that the user types; empty at the end of input.

    Other greenlets continue to run in the meantime, so that connections stay alive however long it takes.
    """
    select([sys.stdin], [], [])
    return sys.stdin.readline()
