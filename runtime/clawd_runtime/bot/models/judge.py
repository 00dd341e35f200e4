"""The judge of a model with a share of the conversations: it compares its answers to the default's."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import median

from clawd_runtime.bot.models.routes import DEFAULT, JudgeSettings

MOST_KEPT = 2000
# Failures alone: this many without an answer between them need no comparison.
HOPELESS = 5
# Times that differ by less are the same to a person.
SAME_SECONDS = 0.3
# It is asked after every answer, so that rare chances would be met sooner or later.
STANDARD_ERRORS = 3.0


@dataclass(frozen=True, slots=True)
class Trial:
    """The end of a request to a model: times in seconds, None if there was no (first) token."""

    first_token: float | None = None
    total: float | None = None
    cut: bool = False

    @property
    def failed(self) -> bool:
        """Return whether there was no answer."""
        return self.total is None


class Judge:
    """Keeps the requests to each model within a window, and decides about those with a share."""

    def __init__(self, settings: JudgeSettings, clock: Callable[[], float]) -> None:
        self.settings = settings
        self._clock = clock
        self._seen: dict[str, deque[tuple[float, Trial]]] = {}

    def add(self, model: str, trial: Trial) -> None:
        """Record the end of a request."""
        kept = self._seen.setdefault(model, deque(maxlen=MOST_KEPT))
        kept.append((self._clock(), trial))

    def count(self, model: str) -> int:
        """Return how many requests to a model are within the window."""
        return len(self._recent(model))

    def objection(self, model: str) -> str:
        """Return why `model` must lose its share; empty if it may keep it."""
        mine = self._recent(model)
        if len(mine) >= HOPELESS and all(trial.failed for trial in mine[-HOPELESS:]):
            return f"its last {HOPELESS} requests failed"
        if len(mine) < self.settings.least:
            return ""
        others = self._recent(DEFAULT)
        return self._more_errors(mine, others) or self._more_cut(mine, others) or self._slower(mine, others)

    def _more_errors(self, mine: Sequence[Trial], others: Sequence[Trial]) -> str:
        here, there = (_share(trials, lambda trial: trial.failed) for trials in (mine, others))
        if here - there > self.settings.errors + _chance(mine, others, here, there):
            return f"{here:.0%} of its requests failed, of the default's {there:.0%}"
        return ""

    def _more_cut(self, mine: Sequence[Trial], others: Sequence[Trial]) -> str:
        here, there = (_share(trials, lambda trial: trial.cut) for trials in (mine, others))
        if here - there > self.settings.cut + _chance(mine, others, here, there):
            return f"{here:.0%} of its answers are empty or cut, of the default's {there:.0%}"
        return ""

    def _slower(self, mine: Sequence[Trial], others: Sequence[Trial]) -> str:
        if len(others) < self.settings.least:
            return ""
        for what, seconds in (("first token", _first_token), ("answer", _total)):
            here, there = (_median(trials, seconds) for trials in (mine, others))
            if (
                here is not None
                and there is not None
                and here > max(there * self.settings.slower, there + SAME_SECONDS)
            ):
                return f"its median time to the {what} is {here:.2f} s, the default's {there:.2f} s"
        return ""

    def _recent(self, model: str) -> list[Trial]:
        since = self._clock() - self.settings.window_seconds
        return [trial for at, trial in self._seen.get(model, ()) if at > since]


def _first_token(trial: Trial) -> float | None:
    return trial.first_token


def _total(trial: Trial) -> float | None:
    return trial.total


def _share(trials: Sequence[Trial], holds: Callable[[Trial], bool]) -> float:
    return sum(map(holds, trials)) / len(trials) if trials else 0.0


def _chance(mine: Sequence[Trial], others: Sequence[Trial], here: float, there: float) -> float:
    """Return the difference of two shares that chance explains: some standard errors of the difference."""
    counts = (len(mine), max(1, len(others)))
    together = (here * counts[0] + there * counts[1]) / sum(counts)
    return STANDARD_ERRORS * sqrt(together * (1 - together) * (1 / counts[0] + 1 / counts[1]))


def _median(trials: Sequence[Trial], seconds: Callable[[Trial], float | None]) -> float | None:
    found = [value for trial in trials if (value := seconds(trial)) is not None]
    return median(found) if found else None
