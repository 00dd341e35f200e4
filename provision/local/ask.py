"""Secrets that the user types: each is prompted for once in a run, if there is a terminal."""

from __future__ import annotations

import sys
import termios
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import gevent.lock

from provision.local.concurrency import typed_line


class SecretPrompt(Protocol):
    """A source of secrets from the user."""

    def secret(self, kind: str, question: str, accepted: Callable[[str], bool]) -> str | None:
        """Return an answer that `accepted` confirms; `None` without a terminal or an accepted answer.

        Answers to earlier questions of the same `kind` are tried first.
        """


class NoTerminal:
    """A source that never asks, for use without a terminal."""

    def secret(self, kind: str, question: str, accepted: Callable[[str], bool]) -> str | None:
        """Return `None`."""
        return None


class Terminal:
    """A source that prompts on the terminal, one question at a time, up to three times each.

    An answer is kept in memory until the run ends, because several hosts may have the same key or the same
    sudo password.

    Args:
        quiet: returns a context without progress on the screen, for the time of the prompt.

    """

    ATTEMPTS = 3

    def __init__(self, quiet: Callable[[], AbstractContextManager[object]] = nullcontext) -> None:
        self._quiet = quiet
        self._turn = gevent.lock.RLock()
        self._answers: dict[str, list[str]] = {}

    def secret(self, kind: str, question: str, accepted: Callable[[str], bool]) -> str | None:
        """Return an answer as `SecretPrompt.secret` does. An exception of `accepted` ends the question."""
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
    """Return a line that the user types without echo; empty at the end of input.

    Other greenlets continue to run in the meantime, so that connections stay alive.
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
