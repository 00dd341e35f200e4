"""An event loop whose time passes only while it waits, and then at once."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Mapping
from typing import Any


class _Impatient(selectors.DefaultSelector):
    """A selector that, instead of waiting, moves the clock of the loop on."""

    loop: VirtualTimeLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:  # nothing is scheduled: something outside, such as a thread, continues it
            return super().select(1.0)
        ready = super().select(0)
        if not ready:
            self.loop.passed += timeout
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Not for code that waits for another thread or process: it would see timeouts at once."""

    def __init__(self) -> None:
        self.passed = 0.0
        selector = _Impatient()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.passed


VIRTUAL_TIME: tuple[str, Mapping[str, Any]] = ("asyncio", {"loop_factory": VirtualTimeLoop})
"""The value for the fixture `anyio_backend` of a module whose tests run in virtual time."""
