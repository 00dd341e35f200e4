"""The time that steps take on this host, and how many prompt tokens a step may therefore have.

While answers are being written, each waits for the whole step. The time of a step without prompts, and what
each prompt token adds to it, are measured all the time; prompts get the tokens with which no pause between
two tokens of an answer is much longer than usual.
"""

from __future__ import annotations

LONGEST_PAUSE = 2.8
"""A step with prompts takes at most this many times what it takes without; below 3, as it is estimated."""
LONGEST_STEP_S = 1.0
"""Seconds of a step, also on slow hosts: a cancelled answer ends after the step."""
FIRST_ROOM = 32
"""Prompt tokens of a step while nothing has been measured."""
LEAST_ROOM = 8
"""Prompt tokens of a step that no measurement goes below: a prompt must be read to its end."""
_WEIGHT = 0.2
"""Weight of a new measurement in the running average."""


class StepCosts:
    """Running averages of the time of steps with up to `parallel` sequences; used by one thread."""

    def __init__(self, parallel: int) -> None:
        self._alone: list[float | None] = [None] * (parallel + 1)
        self._added: float | None = None
        self._reading: float | None = None

    def observe(self, *, writing: int, prompt: int, seconds: float) -> None:
        """Learn from a step of `seconds` with `writing` answers and `prompt` tokens of prompts."""
        if not prompt:
            self._alone[writing] = _average(self._alone[writing], seconds)
        elif not writing:
            self._reading = _average(self._reading, seconds / prompt)
        elif (alone := self._without_prompts(writing)) is not None:
            self._added = _average(self._added, max(seconds - alone, 0.0) / prompt)

    def room(self, *, writing: int, capacity: int) -> int:
        """Return how many prompt tokens the next step may have in addition to `writing` answers."""
        most = capacity - writing
        if not writing:
            room = LONGEST_STEP_S / self._reading if self._reading else FIRST_ROOM
        else:
            alone = self._without_prompts(writing)
            if alone is None or self._added is None:
                room = FIRST_ROOM
            elif self._added == 0:
                room = most
            else:
                longest = min((LONGEST_PAUSE - 1) * alone, LONGEST_STEP_S - alone)
                room = longest / self._added
        return min(max(int(room), LEAST_ROOM), most)

    def _without_prompts(self, writing: int) -> float | None:
        """Return the time of a step with `writing` answers only, or with the nearest number that is known."""
        known = [number for number, seconds in enumerate(self._alone) if seconds is not None]
        if not known:
            return None
        return self._alone[min(known, key=lambda number: (abs(number - writing), number))]


def _average(so_far: float | None, new: float) -> float:
    return new if so_far is None else so_far + _WEIGHT * (new - so_far)
