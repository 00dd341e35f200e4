from __future__ import annotations

import asyncio
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawd_runtime.bot import lanes
from clawd_runtime.bot.lanes import LaneRunner, Lanes

STEPS = st.lists(st.one_of(st.tuples(st.just("put"), st.integers(0, 4)), st.just(("take", 0))), max_size=80)


@given(STEPS)
def test_in_order_one_at_a_time_and_in_turn(steps: list[tuple[str, int]]) -> None:
    """Checked against the plain rules, whatever is put, taken and finished when."""
    schedule: Lanes[int, int] = Lanes()
    put: dict[int, list[int]] = defaultdict(list)
    taken: dict[int, list[int]] = defaultdict(list)
    busy: set[int] = set()
    for number, (step, lane) in enumerate(steps):
        if step == "put":
            schedule.put(lane, number)
            put[lane].append(number)
        elif (next_one := schedule.take()) is not None:
            chosen, piece = next_one
            assert chosen not in busy
            busy.add(chosen)
            taken[chosen].append(piece)
        else:
            assert {lane for lane in put if len(put[lane]) > len(taken[lane])} <= busy
        if busy and number % 3 == 0:
            schedule.done(busy.pop())
    for lane, pieces in taken.items():
        assert pieces == put[lane][: len(pieces)]
    assert len(schedule) == sum(map(len, put.values())) - sum(map(len, taken.values()))


def test_a_busy_talker_does_not_hold_up_others() -> None:
    schedule: Lanes[str, int] = Lanes()
    for number in range(100):
        schedule.put("talker", number)
    schedule.put("quiet", 0)
    order = []
    for _ in range(3):
        taken = schedule.take()
        assert taken
        order.append(taken[0])
        schedule.done(taken[0])
    assert order == ["talker", "quiet", "talker"]


async def _run_many() -> tuple[list[tuple[str, int]], int, int]:
    finished: list[tuple[str, int]] = []
    running: set[str] = set()
    most = 0
    overlaps = 0

    async def handle(piece: tuple[str, int]) -> None:
        nonlocal most, overlaps
        lane, number = piece
        overlaps += lane in running
        running.add(lane)
        most = max(most, len(running))
        await asyncio.sleep(0.001 * (number % 3))
        running.discard(lane)
        finished.append(piece)

    runner: LaneRunner[str, tuple[str, int]] = LaneRunner(handle, limit=4)
    for number in range(20):
        for lane in "abcdefgh":
            runner.put(lane, (lane, number))
    while len(finished) < 160:
        await asyncio.sleep(0.01)
    await runner.stop(1.0)
    return finished, most, overlaps


def test_the_runner_keeps_order_and_limit() -> None:
    finished, most, overlaps = asyncio.run(_run_many())
    assert overlaps == 0
    assert most == 4
    for lane in "abcdefgh":
        assert [number for name, number in finished if name == lane] == list(range(20))


async def _repeat(fault: bool) -> list[str]:
    seen: list[str] = []

    async def handle(piece: str) -> float | None:
        seen.append(piece)
        if seen.count("first") < 3 and piece == "first":
            if fault:
                raise RuntimeError("a fault")
            return 0.02
        return None

    runner: LaneRunner[int, str] = LaneRunner(handle, limit=1)
    runner.put(1, "first")
    runner.put(1, "second")
    runner.put(2, "elsewhere")
    while "second" not in seen:
        await asyncio.sleep(0.005)
    await runner.stop(1.0)
    return seen


def test_a_repeated_piece_holds_its_lane_but_not_its_place() -> None:
    seen = asyncio.run(_repeat(fault=False))
    assert seen == ["first", "elsewhere", "first", "first", "second"]


def test_a_fault_loses_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "RETRY_AFTER_FAULT", 0.02)
    seen = asyncio.run(_repeat(fault=True))
    assert seen == ["first", "elsewhere", "first", "first", "second"]


async def _stop() -> tuple[list[int], bool]:
    done: list[int] = []
    cancelled = False

    async def handle(piece: int) -> None:
        nonlocal cancelled
        try:
            await asyncio.sleep(0.01 if piece == 1 else 30)
        except asyncio.CancelledError:
            cancelled = True
            raise
        done.append(piece)

    runner: LaneRunner[int, int] = LaneRunner(handle, limit=2)
    for piece in (1, 2, 3):
        runner.put(piece, piece)
    await asyncio.sleep(0)
    await runner.stop(0.2)
    return done, cancelled


def test_stopping_finishes_what_it_can_and_begins_nothing() -> None:
    assert asyncio.run(_stop()) == ([1], True)
