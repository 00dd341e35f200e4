"""Interruption of the handling of messages by their senders, with /stop or an edit."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from clawd_runtime.bot.store.store import Interruption

T = TypeVar("T")


class Interrupted(Exception):
    """The sender of a message does not want its answer, or has changed the message."""

    def __init__(self, why: Interruption) -> None:
        super().__init__(why)
        self.why: Interruption = why


@dataclass(slots=True)
class _Run:
    task: asyncio.Task[Any]
    why: Interruption | None = None


class Interruptions:
    """The messages being handled, whose handling can be interrupted."""

    def __init__(self) -> None:
        self._running: dict[int, _Run] = {}

    def interrupt(self, seq: int, why: Interruption) -> None:
        """Interrupt the handling of a message, if it is under way; a stop prevails over an edit."""
        run = self._running.get(seq)
        if run is None:
            return
        # Once only: several messages may be handled together, and the second cancellation would be one
        # that nothing takes back.
        if run.why is None:
            run.task.cancel()
        if run.why != "stop":
            run.why = why

    async def run(self, seqs: Iterable[int], work: Coroutine[Any, Any, T]) -> T:
        """Return the result of `work` on these messages; raise `Interrupted` if one is interrupted."""
        current = asyncio.current_task()
        assert current is not None
        run, handled = _Run(current), tuple(seqs)
        self._running.update(dict.fromkeys(handled, run))
        try:
            return await work
        except asyncio.CancelledError:
            if run.why is None or current.uncancel():
                raise
            raise Interrupted(run.why) from None
        finally:
            for seq in handled:
                if self._running.get(seq) is run:
                    del self._running[seq]
