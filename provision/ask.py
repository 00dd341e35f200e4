"""Secrets that a person types: each is asked for once in a run, where there is a terminal."""

from __future__ import annotations

import sys
import termios
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import gevent.lock

from provision.concurrency import typed_line


class Ask(Protocol):
    """Asks a person for secrets."""

    def secret(self, kind: str, question: str, accepted: Callable[[str], bool]) -> str | None:
        """Return the answer that `accepted` takes; `None` where no one can answer, or no answer was accepted.

        Answers to earlier questions of the same `kind` are tried first.
        """


class NoTerminal:
    """Where there is no terminal: asks nothing."""

    def secret(self, kind: str, question: str, accepted: Callable[[str], bool]) -> str | None:
        """Return nothing."""
        return None


class Terminal:
    """Asks on the terminal, one question at a time, up to three times each.

    An answer is kept in memory until the run ends: the passphrase of a key that several hosts are reached
    with, a sudo password that is the same on all of them.

    Args:
        quiet: what keeps progress off the screen while a person types.
    """

    ATTEMPTS = 3

    def __init__(self, quiet: Callable[[], AbstractContextManager[object]] = nullcontext) -> None:
        self._quiet = quiet
        self._turn = gevent.lock.RLock()
        self._answers: dict[str, list[str]] = {}

    def secret(self, kind: str, question: str, accepted: Callable[[str], bool]) -> str | None:
        """See `Ask.secret`. What `accepted` raises ends the question."""
        with self._turn:
            for known in self._answers.get(kind, ()):
                if accepted(known):
                    return known
            if not sys.stdin.isatty():
                return None
            with self._quiet():
                for attempt in range(self.ATTEMPTS):
                    typed = hidden_line(f"{question}: " if attempt == 0 else f"wrong; {question}: ")
                    if not typed:
                        return None
                    if accepted(typed):
                        self._answers.setdefault(kind, []).append(typed)
                        return typed
        return None


def hidden_line(prompt: str) -> str:
    """Return what a person types without it being shown, empty at the end of input.

    Waits without stopping everything else: connections continue to answer their hosts.
    """
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    hidden = [*before]
    hidden[3] = before[3] & ~termios.ECHO
    sys.stderr.write(prompt)
    sys.stderr.flush()
    try:
        termios.tcsetattr(descriptor, termios.TCSAFLUSH, hidden)
        return typed_line().rstrip("\r\n")
    finally:
        termios.tcsetattr(descriptor, termios.TCSAFLUSH, before)
        sys.stderr.write("\n")
