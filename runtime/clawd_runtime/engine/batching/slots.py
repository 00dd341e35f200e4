"""Choice of the slot for a new prompt with the fewest tokens to compute again: pure functions.

A slot is one sequence of the llama.cpp context. After an answer it keeps its tokens: when the conversation
continues, only the new ones need computing. Tokens in another slot (the system prompt that all conversations
share) can be copied, which takes milliseconds where computing takes seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# A copy moves all tokens of the donor, so it must save noticeably more than the tokens of one step.
SHORTEST_COPY = 32
# A copy takes longer the more tokens the donor has: above this, computing is hardly slower.
LARGEST_DONOR = 512
LARGEST_DONOR_PER_SHARED = 8


@dataclass(frozen=True, slots=True)
class Held:
    """The state of one slot: its computed `tokens`, whether it is in use, and when it was last used."""

    seq: int
    tokens: Sequence[int]
    busy: bool
    used: int


@dataclass(frozen=True, slots=True)
class Placement:
    """The slot `seq` for a prompt, of which the first `keep` tokens need not be computed.

    With a `donor`, these tokens are first copied from that slot.
    """

    seq: int
    keep: int
    donor: int | None = None


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """Return the length of the common prefix in tokens."""
    count = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        count += 1
    return count


def place(slots: Sequence[Held], prompt: Sequence[int]) -> Placement | None:
    """Return the best slot for `prompt`; `None` if all are busy.

    The best is a slot whose conversation continues (at least half of its tokens are kept), the one with the
    longest common prefix first; otherwise the one unused for longest, filled from the slot that shares most
    tokens, of several the shortest. At least one token of the prompt is always left to compute, because
    drawing the next token needs its result.
    """
    most = len(prompt) - 1
    shared = {slot.seq: min(common_prefix(slot.tokens, prompt), most) for slot in slots}
    unused = unused_for_longest(slots)
    if unused is None:
        return None
    idle = [slot for slot in slots if not slot.busy]
    continuing = [slot for slot in idle if slot.tokens and 2 * shared[slot.seq] >= len(slot.tokens)]
    target = max(continuing, key=lambda slot: (shared[slot.seq], -slot.seq), default=unused)
    donors = [
        slot
        for slot in slots
        if shared[slot.seq] >= shared[target.seq] + SHORTEST_COPY
        and len(slot.tokens) <= LARGEST_DONOR_PER_SHARED * shared[slot.seq] + LARGEST_DONOR
    ]
    if donors:
        donor = max(donors, key=lambda slot: (shared[slot.seq], -len(slot.tokens)))
        return Placement(target.seq, shared[donor.seq], donor.seq)
    return Placement(target.seq, shared[target.seq])


def unused_for_longest(slots: Sequence[Held]) -> Held | None:
    """Return an empty slot, else the one unused for longest; `None` if all are busy."""
    idle = (slot for slot in slots if not slot.busy)
    return min(idle, key=lambda slot: (bool(slot.tokens), slot.used, slot.seq), default=None)


def better_soon(slots: Sequence[Held], reading: Sequence[Sequence[int]], prompt: Sequence[int]) -> bool:
    """Return whether a prompt of `reading`, still being computed, will share much more than any slot now.

    Waiting for it costs nothing: prompts are computed oldest first.
    """
    now = max(common_prefix(slot.tokens, prompt) for slot in slots)
    most = len(prompt) - 1
    return any(min(common_prefix(other, prompt), most) >= now + SHORTEST_COPY for other in reading)
