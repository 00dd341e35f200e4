"""The gate: its limit, its order, and the count of tasks ahead."""

from __future__ import annotations

import asyncio
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from clawd_runtime.bot.handling.pace import Pace
from clawd_runtime.bot.models.gate import QueueSemaphore


async def test_places_are_given_in_order_with_count_ahead() -> None:
    inside: list[int] = []

    async def work(gate: QueueSemaphore, number: int, go_on: asyncio.Event) -> None:
        async with gate.place(number, "anna"):
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


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=14), st.integers(1, 3), st.randoms())
def test_every_user_has_a_turn_soon(users: list[str], places: int, choice: Random) -> None:
    """A user without a place waits at most for one turn of each other user."""

    async def play() -> None:
        entered, inside = list[int](), list[int]()
        gate, leaving = QueueSemaphore(places), [asyncio.Event() for _ in users]

        async def work(number: int) -> None:
            async with gate.place(number, users[number]):
                entered.append(number)
                inside.append(number)
                await leaving[number].wait()

        tasks = [asyncio.create_task(work(number)) for number in range(len(users))]
        await asyncio.sleep(0)
        while waiting := set(range(len(users))) - set(entered):
            assert sorted(gate.ahead(number) for number in waiting) == [
                places + position for position in range(len(waiting))
            ]
            going = choice.choice(inside)
            inside.remove(going)
            holding = {users[number] for number in inside}
            without = {users[number] for number in waiting} - holding
            leaving[going].set()
            while len(inside) < places:
                await asyncio.sleep(0)
            assert not without or users[entered[-1]] in without
        for event in leaving:
            event.set()
        await asyncio.gather(*tasks)
        assert gate.is_free
        by_turn = [users[number] for number in entered[places:]]
        for user in set(by_turn):
            if user not in {users[number] for number in entered[:places]}:
                assert by_turn.index(user) < len(set(users))

    asyncio.run(play())


async def test_one_user_with_many_tasks_does_not_delay_another() -> None:
    gate, order = QueueSemaphore(1), list[str]()

    async def work(number: int, user: str) -> None:
        async with gate.place(number, user):
            order.append(user)
            await asyncio.sleep(0)

    users = ["anna"] * 60 + ["ben", "cleo", "ben"]
    await asyncio.gather(*(work(number, user) for number, user in enumerate(users)))
    assert order[:7] == ["anna", "ben", "cleo", "anna", "ben", "anna", "anna"]
    assert len(order) == 63


async def test_place_of_cancelled_task_goes_to_next() -> None:
    gate, entered = QueueSemaphore(1), asyncio.Event()

    async def enter(number: int) -> None:
        async with gate.place(number, "anna"):
            entered.set()

    async with gate.place(0, "ben"):
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
