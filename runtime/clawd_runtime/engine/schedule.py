"""What the next decoding step computes: a pure function of what every sequence still wants.

Each step is one `llama_decode`. Every sequence that is writing its answer gets one token; what room is left
goes to prompts, oldest first, in small chunks, because everybody waits for the whole step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wanting:
    """One running sequence: how many of its `tokens` are not decoded yet, and since when it waits.

    `writing` says that its prompt is done: it then wants exactly the token that was drawn last.
    """

    seq: int
    tokens: int
    writing: bool
    arrival: int


@dataclass(frozen=True, slots=True)
class Share:
    """`count` tokens of sequence `seq` in a step."""

    seq: int
    count: int


def next_batch(wanting: Sequence[Wanting], *, chunk: int, capacity: int) -> tuple[Share, ...]:
    """The shares of the next step in increasing sequence order, `capacity` tokens at most together.

    While anybody is writing, prompts get at most `chunk` tokens together; else all of `capacity`.
    llama.cpp computes neighbouring sequence numbers together only if they come in increasing order.
    `capacity` must be at least the number of sequences.
    """
    writing = [sequence for sequence in wanting if sequence.writing]
    reading = sorted(
        (sequence for sequence in wanting if not sequence.writing and sequence.tokens > 0),
        key=lambda sequence: (sequence.arrival, sequence.seq),
    )
    shares = [Share(sequence.seq, 1) for sequence in writing]
    room = min(chunk, capacity - len(shares)) if writing else capacity
    for sequence in reading:
        count = min(sequence.tokens, room)
        if count == 0:
            break
        shares.append(Share(sequence.seq, count))
        room -= count
    return tuple(sorted(shares, key=lambda share: share.seq))
