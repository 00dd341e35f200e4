"""The gate: its limit, its order, and the count of tasks ahead."""

from __future__ import annotations

import asyncio

from clawd_runtime.bot.handling.pace import Pace
from clawd_runtime.bot.models.gate import QueueSemaphore


async def test_places_are_given_in_order_with_count_ahead() -> None:
    inside: list[int] = []

    async def work(gate: QueueSemaphore, number: int, go_on: asyncio.Event) -> None:
        async with gate.place(number):
            inside.append(number)
            await go_on.wait()

    gate, go_on = QueueSemaphore(2), asyncio.Event()
    tasks = [asyncio.create_task(work(gate, number, go_on)) for number in range(6)]
    await asyncio.sleep(0)
    assert inside == [0, 1]
    assert [gate.ahead(number) for number in range(6)] == [0, 0, 2, 3, 4, 5]
    tasks[3].cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert gate.ahead(4) == 3
    go_on.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert gate.is_free
    assert inside == [0, 1, 2, 4, 5]


async def test_place_of_cancelled_task_goes_to_next() -> None:
    gate, entered = QueueSemaphore(1), asyncio.Event()

    async def enter(number: int) -> None:
        async with gate.place(number):
            entered.set()

    async with gate.place(0):
        first = asyncio.create_task(enter(1))
        second = asyncio.create_task(enter(2))
        await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait_for(second, 1.0)
    assert gate.is_free
    assert (first.cancelled(), entered.is_set()) == (True, True)


async def test_pace_limits_calls_per_second() -> None:
    pace = Pace(50.0)
    begun = asyncio.get_running_loop().time()
    await asyncio.gather(*(pace.turn() for _ in range(11)))
    assert (asyncio.get_running_loop().time() - begun) >= 0.2
