"""Crashes at any await between the store and the platforms, in virtual time."""

from __future__ import annotations

import pytest

from tests.bot.simulation.virtual_time import simulated
from tests.bot.simulation.world import crashing_world


def _run(seeds: range) -> None:
    streamed = 0
    for seed in seeds:
        world = simulated(crashing_world(seed))
        streamed += len(world.platforms.feishu.platform.cards.cards)
    assert streamed


@pytest.mark.parametrize("first", [0, 10, 20])
def test_crashes_at_any_await_leave_one_complete_answer_to_every_question(first: int) -> None:
    _run(range(first, first + 10))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", range(1000, 1270, 30))
def test_hundreds_of_simulated_lives_with_crashes(first: int) -> None:
    _run(range(first, first + 30))


@pytest.mark.campaign
@pytest.mark.timeout(3 * 3600)
def test_ten_thousand_simulated_lives_with_crashes() -> None:
    _run(range(10_000, 20_000))
