"""Blocking calls made cooperative, as pyinfra needs, and the same thing done for several hosts at once."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Hashable, Iterable
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
    """Patches sockets, threads and subprocesses for gevent, once. Call before anything opens sockets."""
    if not enabled():
        monkey.patch_all()
        os.close = _closing_folders_at_once(os.close)  # type: ignore[assignment]
        # Ctrl-C still reaches the main greenlet, without a traceback of whichever happened to be running.
        Hub.NOT_ERROR = (*Hub.NOT_ERROR, KeyboardInterrupt)


def _closing_folders_at_once(deferred: Callable[[int], None]) -> Callable[[int], None]:
    """gevent's `os.close` (since 25.8.1) closes what is no regular file a little later, once others have had
    their turn: whoever removes a tree would hold all its folders open. For a folder nobody can be waiting.
    """
    at_once: Callable[[int], None] = monkey.get_original("os", "close")

    def close(fd: int) -> None:
        (at_once if stat.S_ISDIR(os.fstat(fd).st_mode) else deferred)(fd)

    return close


def outcomes(items: Iterable[K], function: Callable[[K], T], at_once: int = 100) -> dict[K, T | Exception]:
    """What `function` gives for every item, or the exception it raises; all at once, in the items' order."""

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
    """What `function` gives for every item, all at once.

    Raises the exception of the first item, in order, for which it raised one; the others have ended by then.
    """
    done: dict[K, T] = {}
    for item, outcome in outcomes(items, function, at_once).items():
        if isinstance(outcome, Exception):
            raise outcome
        done[item] = outcome
    return done


def typed_line() -> str:
    """The line that a person types, empty at the end of input.

    Waits without stopping everything else: connections go on answering their hosts, however long a person
    reads before typing.
    """
    select([sys.stdin], [], [])
    return sys.stdin.readline()
