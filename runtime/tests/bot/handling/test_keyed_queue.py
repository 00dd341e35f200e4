from __future__ import annotations

import asyncio
import random
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from clawd_runtime.bot.handling import keyed_queue
from clawd_runtime.bot.handling.keyed_queue import LaneRunner, Lanes

STEPS = st.lists(st.one_of(st.tuples(st.just("put"), st.integers(0, 4)), st.just(("take", 0))), max_size=80)


@given(STEPS)
def test_lanes_match_reference_schedule(steps: list[tuple[str, int]]) -> None:
    """The schedule follows the rules for any order of adding, taking and finishing pieces."""
    schedule: Lanes[int] = Lanes()
    put: dict[int, list[int]] = defaultdict(list)
    taken: dict[int, list[int]] = defaultdict(list)
    busy: dict[int, int] = {}
    for number, (step, lane) in enumerate(steps):
        if step == "put":
            schedule.put(lane, number)
            put[lane].append(number)
        elif (next_one := schedule.take()) is not None:
            chosen, piece = next_one
            assert chosen not in busy
            busy[chosen] = piece
            taken[chosen].append(piece)
        else:
            assert {lane for lane in put if len(put[lane]) > len(taken[lane])} <= busy.keys()
        if busy and number % 3 == 0:
            schedule.done(*busy.popitem())
    for lane, pieces in taken.items():
        assert pieces == put[lane][: len(pieces)]
    assert len(schedule) == sum(map(len, put.values())) - sum(map(len, taken.values()))


def test_busy_lane_does_not_delay_others() -> None:
    schedule: Lanes[str] = Lanes()
    for number in range(100):
        schedule.put("talker", number)
    schedule.put("quiet", 100)
    order = []
    for _ in range(3):
        taken = schedule.take()
        assert taken
        order.append(taken[0])
        schedule.done(*taken)
    assert order == ["talker", "quiet", "talker"]


async def test_runner_keeps_order_and_limit() -> None:
    finished: list[tuple[str, int]] = []
    running: set[str] = set()
    most = 0
    overlaps = 0

    async def handle(piece: int) -> None:
        nonlocal most, overlaps
        number, lane = piece // 8, "abcdefgh"[piece % 8]
        overlaps += lane in running
        running.add(lane)
        most = max(most, len(running))
        await asyncio.sleep(0.001 * (number % 3))
        running.discard(lane)
        finished.append((lane, number))

    runner: LaneRunner[str] = LaneRunner(handle, limit=4)
    for number in range(20):
        for place, lane in enumerate("abcdefgh"):
            runner.put(lane, number * 8 + place)
    while len(finished) < 160:
        await asyncio.sleep(0.01)
    await runner.stop(1.0)
    assert overlaps == 0
    assert most == 4
    for lane in "abcdefgh":
        assert [number for name, number in finished if name == lane] == list(range(20))


FIRST, SECOND, ELSEWHERE = 1, 2, 3


async def _repeat(fault: bool) -> list[int]:
    seen: list[int] = []

    async def handle(piece: int) -> float | None:
        seen.append(piece)
        if seen.count(FIRST) < 3 and piece == FIRST:
            if fault:
                raise RuntimeError("a fault")
            return 0.02
        return None

    runner: LaneRunner[int] = LaneRunner(handle, limit=1)
    runner.put(1, FIRST)
    runner.put(1, SECOND)
    runner.put(2, ELSEWHERE)
    while SECOND not in seen:
        await asyncio.sleep(0.005)
    await runner.stop(1.0)
    return seen


async def test_retried_piece_blocks_its_lane_but_not_the_limit() -> None:
    seen = await _repeat(fault=False)
    assert seen == [FIRST, ELSEWHERE, FIRST, FIRST, SECOND]


async def test_internal_error_loses_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyed_queue, "RETRY_AFTER_FAULT", 0.02)
    seen = await _repeat(fault=True)
    assert seen == [FIRST, ELSEWHERE, FIRST, FIRST, SECOND]


async def test_stop_finishes_running_work_and_starts_none() -> None:
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

    runner: LaneRunner[int] = LaneRunner(handle, limit=2)
    for piece in (1, 2, 3):
        runner.put(piece, piece)
    await asyncio.sleep(0)
    await runner.stop(0.2)
    assert (done, cancelled) == ([1], True)


class LanesOfRest(RuleBasedStateMachine):
    """Pieces are added in any order, retried or finished; the oldest of a free lane is always next."""

    def __init__(self) -> None:
        super().__init__()
        self.schedule: Lanes[int] = Lanes()
        self.waiting: dict[int, set[int]] = defaultdict(set)
        self.busy: dict[int, int] = {}
        self.finished: set[int] = set()

    @rule(lane=st.integers(0, 2), piece=st.integers(0, 30))
    def put(self, lane: int, piece: int) -> None:
        number = piece * 3 + lane
        self.schedule.put(lane, number)
        if number != self.busy.get(lane):
            self.waiting[lane].add(number)

    @rule()
    def take(self) -> None:
        taken = self.schedule.take()
        resting = set(self.schedule.resting)
        if taken is None:
            assert {lane for lane, pieces in self.waiting.items() if pieces} <= self.busy.keys() | resting
            return
        lane, piece = taken
        assert lane not in self.busy
        assert piece == min(self.waiting[lane])
        self.waiting[lane].remove(piece)
        self.busy[lane] = piece

    @precondition(lambda self: self.busy)
    @rule(chance=st.randoms(use_true_random=False), repeated=st.booleans())
    def end(self, chance: random.Random, repeated: bool) -> None:
        lane = chance.choice(sorted(self.busy))
        piece = self.busy.pop(lane)
        if repeated:
            self.schedule.rest(lane, piece)
            self.waiting[lane].add(piece)
        else:
            self.schedule.done(lane, piece)

    @rule(lane=st.integers(0, 2))
    def wake(self, lane: int) -> None:
        self.schedule.wake(lane)

    @invariant()
    def nothing_is_lost(self) -> None:
        assert len(self.schedule) == sum(map(len, self.waiting.values()))
        assert self.schedule.in_hand == set(self.busy.values())
        for lane in self.schedule.resting:
            assert self.waiting[lane]
            assert lane not in self.busy


TestLanesOfRest = LanesOfRest.TestCase


async def test_older_piece_is_handled_before_waiting_one() -> None:
    seen: list[int] = []

    async def handle(piece: int) -> float | None:
        seen.append(piece)
        return 60.0 if piece == 5 and 3 not in seen else None

    runner: LaneRunner[str] = LaneRunner(handle, limit=4)
    runner.put("a", 5)
    await asyncio.sleep(0.01)
    runner.put("a", 3)
    runner.put("a", 5)
    await asyncio.sleep(0.01)
    assert not runner.wake(5)
    await runner.stop(1.0)
    assert seen == [5, 3, 5]


async def test_resting_lane_can_be_woken() -> None:
    seen: list[int] = []

    async def handle(piece: int) -> float | None:
        seen.append(piece)
        return 60.0 if seen.count(piece) == 1 else None

    runner: LaneRunner[str] = LaneRunner(handle, limit=4)
    for piece, lane in enumerate("abc"):
        runner.put(lane, piece)
    await asyncio.sleep(0.01)
    assert runner.wake(1)
    await asyncio.sleep(0.01)
    assert seen == [0, 1, 2, 1]
    runner.wake_all()
    await asyncio.sleep(0.01)
    assert runner.begin_nothing() == frozenset()
    await runner.stop(1.0)
    assert sorted(seen) == [0, 0, 1, 1, 2, 2]


async def test_lane_goes_on_after_its_piece_was_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyed_queue, "RETRY_AFTER_FAULT", 0.0)
    seen: list[int] = []

    async def handle(piece: int) -> float | None:
        seen.append(piece)
        if len(seen) == 1:
            raise asyncio.CancelledError
        return None

    runner: LaneRunner[str] = LaneRunner(handle, limit=4)
    runner.put("a", 1)
    runner.put("a", 2)
    await asyncio.sleep(0.01)
    await runner.stop(1.0)
    assert seen == [1, 1, 2]
