"""How many prompt tokens a step may have, on hosts of all speeds."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from clawd_runtime.engine.batching.step_costs import (
    FIRST_ROOM,
    LEAST_ROOM,
    LONGEST_STEP_S,
    StepCosts,
)

CAPACITY = 256


@dataclass(frozen=True)
class Simulated:
    """A host on which a step takes `base`, and more for each answer and each prompt token (seconds)."""

    base: float
    answer: float
    token: float

    def step(self, writing: int, prompt: int) -> float:
        return self.base + writing * self.answer + prompt * self.token


FAST = Simulated(0.007, 0.001, 0.0015)
SLOW = Simulated(0.15, 0.01, 0.02)
HUGE = Simulated(0.4, 0.05, 0.2)
"""A model of 70 billion parameters on a few cores."""


def learned(host: Simulated, *, writing: int, steps: int = 60) -> StepCosts:
    costs = StepCosts(32)
    for number in range(steps):
        prompt = costs.room(writing=writing, capacity=CAPACITY) if number % 2 else 0
        costs.observe(writing=writing, prompt=prompt, seconds=host.step(writing, prompt))
    return costs


@pytest.mark.parametrize("host", [FAST, SLOW])
@pytest.mark.parametrize("writing", [1, 4, 31])
def test_pauses_stay_below_three_times_the_usual_one(host: Simulated, writing: int) -> None:
    room = learned(host, writing=writing).room(writing=writing, capacity=CAPACITY)
    assert host.step(writing, room) < 3 * host.step(writing, 0)
    assert host.step(writing, room) <= LONGEST_STEP_S
    most = min(2.5 * host.step(writing, 0), 0.95 * LONGEST_STEP_S)
    assert room == CAPACITY - writing or host.step(writing, room + 2) > most


@pytest.mark.parametrize("host", [FAST, SLOW, HUGE])
def test_steps_stay_below_a_second_where_that_is_possible(host: Simulated) -> None:
    costs = StepCosts(32)
    for _ in range(30):
        room = costs.room(writing=0, capacity=CAPACITY)
        costs.observe(writing=0, prompt=room, seconds=host.step(0, room))
    assert host.step(0, room) <= max(LONGEST_STEP_S * 1.05, host.step(0, LEAST_ROOM))
    assert room == CAPACITY or host.step(0, room + 2) > 0.9 * LONGEST_STEP_S


def test_first_steps_are_short() -> None:
    costs = StepCosts(4)
    assert costs.room(writing=0, capacity=CAPACITY) == FIRST_ROOM
    assert costs.room(writing=2, capacity=CAPACITY) == FIRST_ROOM


def test_prompts_always_make_progress() -> None:
    costs = StepCosts(4)
    for _ in range(20):
        costs.observe(writing=1, prompt=0, seconds=5.0)
        costs.observe(writing=1, prompt=8, seconds=50.0)
    assert costs.room(writing=1, capacity=CAPACITY) == LEAST_ROOM
    assert costs.room(writing=3, capacity=8) == 5


def test_number_of_answers_never_seen_counts_as_the_nearest_known() -> None:
    costs = learned(FAST, writing=4)
    assert costs.room(writing=5, capacity=CAPACITY) == costs.room(writing=4, capacity=CAPACITY)


def test_costs_follow_a_host_that_becomes_slower() -> None:
    costs = learned(FAST, writing=4)
    before = costs.room(writing=4, capacity=CAPACITY)
    for _ in range(60):
        costs.observe(writing=4, prompt=before, seconds=4 * FAST.step(4, before))
    assert costs.room(writing=4, capacity=CAPACITY) < before
