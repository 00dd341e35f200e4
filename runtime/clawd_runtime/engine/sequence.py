"""One answer while it is computed: what is known of it, without any effect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from clawd_runtime.engine.detokenize import TextStream
from clawd_runtime.engine.schedule import Wanting
from clawd_runtime.engine.values import Event, FinishReason, Job, Usage
from clawd_runtime.reasoning import Split


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
    reasoned: int = 0
    first_token: float | None = None
    text: TextStream = field(init=False)

    def __post_init__(self) -> None:
        self.text = TextStream(self.ticket.job.stop, self.ticket.job.opening)

    def wanting(self) -> Wanting:
        """What it asks of the next step."""
        return Wanting(self.seq, len(self.todo), self.written > 0, self.arrival)

    def take(self, count: int) -> tuple[int, ...]:
        """The next `count` tokens to compute, no longer to do."""
        taken, self.todo = self.todo[:count], self.todo[count:]
        return taken

    def write(self, token: int, piece: bytes, *, ends: bool) -> tuple[tuple[Split, ...], FinishReason | None]:
        """Take in a drawn token: the text that is now certain, and why the answer ends if it does."""
        self.written += 1
        self.todo = (token,)
        if ends:
            return (self._counted(self.text.finish),), "stop"
        split = self._counted(lambda: self.text.feed(piece))
        if self.text.stopped:
            return (split,), "stop"
        if self.written >= self.ticket.job.max_tokens:
            rest = self.text.finish(complete=False)
            return (split, rest), "stop" if self.text.stopped else "length"
        return (split,), None

    def _counted(self, read: Callable[[], Split]) -> Split:
        """Count the token that `read` takes in as reasoning if it is a part of it, its marks included."""
        before = self.text.reasoning
        split = read()
        self.reasoned += before or self.text.reasoning
        if split.restarts:
            self.reasoned = self.written
        return split

    def usage(self) -> Usage:
        """What the answer has cost so far."""
        return Usage(len(self.ticket.job.prompt), self.reused, self.written, self.reasoned)
