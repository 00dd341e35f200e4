"""The state of one answer while it is computed, without side effects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from clawd_runtime.engine.batching.schedule import Wanting
from clawd_runtime.engine.llama.detokenize import TextStream
from clawd_runtime.engine.states.prefixes import Tokens, as_tokens
from clawd_runtime.engine.states.values import SavedState
from clawd_runtime.engine.values import AnswerJob, Event, FinishReason, TokenLogprob, Usage
from clawd_runtime.errors import RequestError
from clawd_runtime.reasoning.splitter import ReasoningSplit


@dataclass(slots=True, eq=False)
class Ticket:
    """A job submitted to the batcher; `emit` is called with its events from the batcher's thread.

    `submitted` is in monotonic seconds, like all times in this module. `prefix` is the prompt without its
    last token, which is always computed. The batcher has `looked` for a saved state in a file, and lets the
    job wait for the `awaited` one until `awaited_until`.
    """

    job: AnswerJob
    emit: Callable[[Event], None]
    submitted: float
    cancelled: bool = False
    prefix: Tokens = field(init=False)
    looked: bool = False
    awaited: SavedState | None = None
    awaited_until: float | None = None

    def __post_init__(self) -> None:
        self.prefix = as_tokens(self.job.prompt[:-1])

    def close(self) -> None:
        """Free what the job holds, once no token of it is drawn any more."""
        if self.job.constraint is not None:
            self.job.constraint.close()


@dataclass(slots=True)
class Sequence:
    """A ticket in its slot.

    `todo` is the tokens to compute next: the rest of the prompt, later the token drawn last.
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
    unsent: list[TokenLogprob] = field(default_factory=list)
    ahead: int = 0

    def __post_init__(self) -> None:
        job = self.ticket.job
        self.text = TextStream(job.stop, job.opening, plain=job.plain or job.constraint is not None)

    def wanting(self) -> Wanting:
        """Return what the sequence waits for in the next step."""
        return Wanting(self.seq, len(self.todo), self.written > 0, self.arrival)

    def take(self, count: int) -> tuple[int, ...]:
        """Remove the next `count` tokens from `todo` and return them."""
        taken, self.todo = self.todo[:count], self.todo[count:]
        return taken

    def write(
        self, token: int, piece: bytes, *, ends: bool
    ) -> tuple[tuple[ReasoningSplit, ...], FinishReason | None]:
        """Add a drawn token; return the text that is now certain and, if the answer ends, the reason."""
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

    def _counted(self, read: Callable[[], ReasoningSplit]) -> ReasoningSplit:
        """Call `read`, and count its token as reasoning if it belongs to the reasoning or its marks."""
        before = self.text.reasoning
        split = read()
        self.reasoned += before or self.text.reasoning
        if split.restarts:
            self.reasoned = self.written
        return split

    def certain_logprobs(self, text: str, *, ended: bool) -> tuple[TokenLogprob, ...]:
        """Return the logprobs of the tokens that `text`, the next piece of the answer, begins or contains.

        If the answer has `ended` without a stop string, return all that are left.
        """
        self.ahead += len(text.encode(errors="replace"))
        count = 0
        while count < len(self.unsent) and (self.ahead > 0 or (ended and not self.text.stopped)):
            self.ahead -= len(self.unsent[count].piece)
            count += 1
        certain, self.unsent = tuple(self.unsent[:count]), self.unsent[count:]
        return certain

    def usage(self) -> Usage:
        """Return the token counts of the answer so far."""
        return Usage(len(self.ticket.job.prompt), self.reused, self.written, self.reasoned)


def check_fits(job: AnswerJob, context_size: int) -> None:
    """Raise `RequestError` unless prompt and answer fit into the context.

    Raises:
        RequestError: They do not (`context_length_exceeded`), or there is no prompt.

    """
    if not job.prompt:
        raise RequestError("the prompt is empty", param=job.field)
    if len(job.prompt) + job.max_tokens > context_size:
        raise RequestError(
            f"context length exceeded: {len(job.prompt) + job.max_tokens} tokens requested "
            f"({len(job.prompt)} in the {job.field}, {job.max_tokens} in the answer), "
            f"{context_size} available",
            code="context_length_exceeded",
            param=job.field,
        )
