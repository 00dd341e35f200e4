"""At most so many events in a period, counted for each key apart."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field


@dataclass
class Window:
    """Allows `count` events of one key in any `seconds`."""

    count: int
    seconds: float
    _seen: dict[object, deque[float]] = field(default_factory=lambda: defaultdict(deque))

    def wait(self, key: object, now: float) -> float:
        """Return the seconds until `key` may come again; 0 when it may now. Do not count the event."""
        seen = self._seen[key]
        while seen and seen[0] <= now - self.seconds:
            seen.popleft()
        return 0.0 if len(seen) < self.count else seen[0] + self.seconds - now

    def add(self, key: object, now: float) -> None:
        """Count one event of `key`."""
        self._seen[key].append(now)
