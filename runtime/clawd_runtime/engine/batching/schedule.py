"""The schedule of the next decoding step: a pure function of the tokens that every sequence waits for.

Each step is one `llama_decode`. Every sequence that is writing its answer gets one token; the room for
prompts is divided so that a long one is read steadily and short ones do not wait for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
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


def next_batch(wanting: Sequence[Wanting], *, room: int, capacity: int) -> tuple[Share, ...]:
    """Return the shares of the next step in increasing sequence order, at most `capacity` tokens in total.

    Prompts get at most `room` tokens in total: the oldest at least half of them, and of the others first the
    one with the fewest tokens left. llama.cpp computes neighbouring sequence numbers together only if they
    are in increasing order. `capacity` must be at least the number of sequences.
    """
    writing = [sequence for sequence in wanting if sequence.writing]
    reading = sorted(
        (sequence for sequence in wanting if not sequence.writing and sequence.tokens > 0),
        key=lambda sequence: (sequence.arrival, sequence.seq),
    )
    shares = [Share(sequence.seq, 1) for sequence in writing]
    shares += _of_prompts(reading, min(room, capacity - len(shares)))
    return tuple(sorted(shares, key=lambda share: share.seq))


def _of_prompts(reading: Sequence[Wanting], room: int) -> Iterator[Share]:
    """Yield the shares of prompts, given the oldest first."""
    if not reading or room <= 0:
        return
    oldest, *others = reading
    sure = min(oldest.tokens, -(-room // 2))
    room -= sure
    for sequence in sorted(others, key=lambda sequence: (sequence.tokens, sequence.arrival, sequence.seq)):
        if count := min(sequence.tokens, room):
            yield Share(sequence.seq, count)
            room -= count
    yield Share(oldest.seq, sure + min(room, oldest.tokens - sure))


def next_in_line(waiting: Sequence[str], running: Iterable[str], turns: Mapping[str, int]) -> int:
    """Return the position of the next request to admit, given who sent the `waiting` and `running` ones.

    It is the oldest of the user who has the fewest running, of several of the one whose last turn is longest
    ago (`turns`, increasing). So many requests of one user do not delay another user's first one.
    """
    has = Counter(running)

    def rank(position: int) -> tuple[int, int, int]:
        user = waiting[position]
        return has[user], turns.get(user, 0), position

    return min(range(len(waiting)), key=rank)
