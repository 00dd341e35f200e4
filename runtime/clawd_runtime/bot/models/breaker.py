"""A circuit breaker: it keeps requests away from a model that does not answer, until a probe succeeds.

closed      requests are made; several failures in a row, or among the last requests, open it
open        no request is made; probes ask the server whether it responds again
half-open   the server responds: a single request is made; its first token closes the breaker
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

BreakerState = Literal["closed", "open", "half-open"]


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """When a breaker opens, and how long it waits between probes. Times are in seconds."""

    in_a_row: int = 5
    share: float = 0.5
    least: int = 10
    most: int = 20
    """It also opens when `share` of the last `least` to `most` requests within `window` failed."""
    window: float = 60.0
    first_wait: float = 0.5
    longest_wait: float = 30.0


class CircuitBreaker:
    """The state of one model. `on_change` is called after every change of state.

    A request begins with `begin`, whose ticket it reports with: results of requests that began before the
    last change of state say nothing about the model now, and are ignored.
    """

    def __init__(self, rules: BreakerRules, clock: Callable[[], float]) -> None:
        self._rules = rules
        self._clock = clock
        self._state: BreakerState = "closed"
        self._ticket = 0
        self._trial = False
        self._in_a_row = 0
        self._recent: deque[tuple[float, bool]] = deque(maxlen=rules.most)
        self._wait = rules.first_wait
        self.down_since: float | None = None
        """When it opened, until it closes again."""
        self.probe_at = 0.0
        """When the next probe of an open breaker is due."""
        self.on_change: Callable[[], None] = lambda: None

    @property
    def state(self) -> BreakerState:
        """Return the state."""
        return self._state

    @property
    def admits(self) -> bool:
        """Return whether a request may begin now."""
        return self._state == "closed" or (self._state == "half-open" and not self._trial)

    def begin(self) -> int:
        """Begin a request that is admitted, and return its ticket."""
        self._trial = self._state == "half-open"
        return self._ticket

    def responded(self, ticket: int) -> None:
        """Record the first token of an answer."""
        if ticket == self._ticket and self._state == "half-open":
            self._recent.clear()
            self._in_a_row = 0
            self._wait = self._rules.first_wait
            self.down_since = None
            self._become("closed")

    def succeeded(self, ticket: int) -> None:
        """Record a whole answer, or a refusal that shows that the model works."""
        self.responded(ticket)
        if self._state == "closed":
            self._in_a_row = 0
            self._recent.append((self._clock(), True))

    def failed(self, ticket: int, *, after: float = 0.0, certain: bool = False) -> None:
        """Record a failed request; after a `certain` one no other is made, at least for `after` seconds."""
        if ticket != self._ticket or self._state == "open":
            return
        now = self._clock()
        if self._state == "half-open":
            self._wait = min(2 * self._wait, self._rules.longest_wait)
            self._open(now, after)
            return
        self._in_a_row += 1
        self._recent.append((now, False))
        if certain or self._in_a_row >= self._rules.in_a_row or self._mostly_fails(now):
            self.down_since = now
            self._open(now, after)

    def abandoned(self, ticket: int) -> None:
        """Record the end of a request without a result: it was cancelled."""
        if ticket == self._ticket and self._state == "half-open" and self._trial:
            self._trial = False
            self.on_change()

    def probed(self, *, responds: bool) -> None:
        """Record the result of a probe of an open breaker."""
        if self._state != "open":
            return
        if responds:
            self._become("half-open")
        else:
            self._wait = min(2 * self._wait, self._rules.longest_wait)
            self.probe_at = self._clock() + self._wait

    def _mostly_fails(self, now: float) -> bool:
        recent = [worked for at, worked in self._recent if at > now - self._rules.window]
        return len(recent) >= self._rules.least and recent.count(False) >= self._rules.share * len(recent)

    def _open(self, now: float, after: float) -> None:
        self.probe_at = now + max(self._wait, min(after, self._rules.longest_wait))
        self._become("open")

    def _become(self, state: BreakerState) -> None:
        self._state = state
        self._ticket += 1
        self._trial = False
        self.on_change()
