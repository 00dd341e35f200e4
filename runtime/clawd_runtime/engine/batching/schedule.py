"""The schedule of the next decoding step: a pure function of the tokens that every sequence waits for.

Each step is one `llama_decode`. Every sequence that is writing its answer gets one token; the remaining
capacity goes to prompts, oldest first, in small chunks, because all answers wait for the whole step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wanting:
    """A running sequence with the number of its `tokens` not decoded yet and its order of `arrival`.

    `writing` means that its prompt is decoded: only the token drawn last then remains to be decoded.
    """

    seq: int
    tokens: int
    writing: bool
    arrival: int


@dataclass(frozen=True, slots=True)
class Share:
    """A share of a step: `count` tokens of sequence `seq`."""

    seq: int
    count: int


def next_batch(wanting: Sequence[Wanting], *, chunk: int, capacity: int) -> tuple[Share, ...]:
    """Return the shares of the next step in increasing sequence order, at most `capacity` tokens in total.

    While any sequence is writing, prompts get at most `chunk` tokens in total; otherwise all of `capacity`.
    llama.cpp computes neighbouring sequence numbers together only if they are in increasing order.
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
