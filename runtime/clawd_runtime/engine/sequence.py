"""One answer while it is computed: what is known of it, without any effect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from clawd_runtime.engine.detokenize import TextStream
from clawd_runtime.engine.schedule import Wanting
from clawd_runtime.engine.values import Event, FinishReason, Job, Usage


@dataclass(slots=True, eq=False)
class Ticket:
    """A job handed to the batcher; its events go to `emit`, from the batcher's thread.

    `submitted` is in monotonic seconds, like all times here.
    """

    job: Job
    emit: Callable[[Event], None]
    submitted: float
    cancelled: bool = False


@dataclass(slots=True)
class Sequence:
    """A ticket on its slot.

    `todo` is tokens to compute next: the rest of the prompt, later the one that was drawn last.
    """

    ticket: Ticket
    seq: int
    arrival: int
    reused: int
    placed: float
    todo: tuple[int, ...]
    written: int = 0
    first_token: float | None = None
    text: TextStream = field(init=False)

    def __post_init__(self) -> None:
        self.text = TextStream(self.ticket.job.stop)

    def wanting(self) -> Wanting:
        """What it asks of the next step."""
        return Wanting(self.seq, len(self.todo), self.written > 0, self.arrival)

    def take(self, count: int) -> tuple[int, ...]:
        """The next `count` tokens to compute, no longer to do."""
        taken, self.todo = self.todo[:count], self.todo[count:]
        return taken

    def write(self, token: int, piece: bytes, *, ends: bool) -> tuple[str, FinishReason | None]:
        """Take in a drawn token: the text that is now certain, and why the answer ends if it does."""
        self.written += 1
        self.todo = (token,)
        if ends:
            return self.text.finish(), "stop"
        text = self.text.feed(piece)
        if self.text.stopped:
            return text, "stop"
        if self.written >= self.ticket.job.max_tokens:
            return text + self.text.finish(), "length"
        return text, None

    def usage(self) -> Usage:
        """What the answer has cost so far."""
        return Usage(prompt=len(self.ticket.job.prompt), reused=self.reused, completion=self.written)
