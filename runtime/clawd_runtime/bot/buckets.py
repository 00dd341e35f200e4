"""Token buckets: how often a platform accepts calls, in a chat and in all.

A bucket is stored as one number, the time at which it is full again. So it can be shared by all bots on a
database: who takes a token moves that time on. In any period of `t` seconds it gives `burst` + `rate` · t
tokens at most. Source: the generic cell rate algorithm (ITU-T I.371).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

# A bucket that is full only later than this was taken from before the clock was set back.
LONGEST_DEBT = 3600.0


class Urgency(IntEnum):
    """What a call is for; smaller ones are served first."""

    REPLY = 0
    NOTICE = 1
    PIECE = 2


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket with `burst` tokens, refilled at `rate` tokens per second.

    `scope` names it within its channel. Calls that are no replies leave `reserved` tokens. A bucket `of_chat`
    concerns one chat, another one all of them.
    """

    scope: str
    burst: int
    rate: float
    reserved: int = 0
    of_chat: bool = False

    def wait(self, full_at: float, urgency: Urgency, now: float) -> float:
        """Return the seconds until a token is there; 0 if one is there now."""
        if full_at > now + LONGEST_DEBT + self.burst / self.rate:
            return 0.0
        spare = self.burst - 1 - (self.reserved if urgency > Urgency.REPLY else 0)
        return max(0.0, full_at - now - max(0, spare) / self.rate)

    def after(self, full_at: float, now: float) -> float:
        """Return when the bucket is full again once a token is taken."""
        if full_at > now + LONGEST_DEBT + self.burst / self.rate:
            full_at = now
        return max(full_at, now) + 1.0 / self.rate


@dataclass(frozen=True, slots=True)
class BucketState:
    """When a bucket is full again, and until when the platform refuses calls."""

    full_at: float = 0.0
    refused_until: float = 0.0


@dataclass(frozen=True, slots=True)
class PacedCall:
    """A call that needs a token of each of these buckets."""

    buckets: tuple[Bucket, ...]
    urgency: Urgency


def take(
    calls: Sequence[PacedCall], states: Mapping[str, BucketState], now: float
) -> tuple[list[float], dict[str, BucketState]]:
    """Give tokens to calls in this order; return the seconds that each must still wait, and new states."""
    current = dict(states)
    changed: dict[str, BucketState] = {}
    waits = []
    for call in calls:
        found = [(bucket, current.get(bucket.scope, BucketState())) for bucket in call.buckets]
        wait = max(
            (
                max(bucket.wait(state.full_at, call.urgency, now), state.refused_until - now)
                for bucket, state in found
            ),
            default=0.0,
        )
        waits.append(max(0.0, wait))
        if wait <= 0:
            for bucket, state in found:
                taken = BucketState(bucket.after(state.full_at, now), state.refused_until)
                current[bucket.scope] = changed[bucket.scope] = taken
    return waits, changed
