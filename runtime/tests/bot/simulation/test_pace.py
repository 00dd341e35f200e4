"""The platforms' limits, kept by all conversations together, in virtual time."""

from __future__ import annotations

import asyncio

import pytest

from clawd_runtime.bot.buckets import Bucket, Urgency
from clawd_runtime.bot.handling.pacing import Pacing
from clawd_runtime.bot.values import Inbound
from tests.bot.simulation.host import Chances
from tests.bot.simulation.virtual_time import now, simulated
from tests.bot.simulation.world import Asked, Life, World, answer_to

CONVERSATIONS = 64
LIMITED = {99991400, 230020, 11232}


def _asked(world: World, inbound: Inbound) -> Inbound:
    place = (inbound.channel, inbound.event_id, inbound.conversation.chat, inbound.text)
    world.asked.append(Asked(*place, inbound.reply_to, answer_to(inbound.text)))
    return inbound


async def _many_at_once(world: World) -> list[str]:
    """Ask in 64 chats of each kind at once; return the refusals for too many calls."""
    platforms = world.platforms
    questions = []
    for number in range(CONVERSATIONS):
        questions.append(platforms.write_on_feishu(f"ou_{number}", f"f{number}"))
        questions.append(platforms.write_on_telegram(-1000 - number, "supergroup", f"g{number}"))
        questions.append(platforms.write_on_telegram(1000 + number, "private", f"p{number}"))
    questions += [platforms.write_on_telegram(-7, "supergroup", f"busy {number}") for number in range(12)]
    assert await world.live(Chances(), *(_asked(world, each) for each in questions), gap=0.0)
    world.check()
    refused = [f"Telegram {call['error']}" for call in platforms.telegram.bot.calls if "error" in call]
    codes = [call["code"] for call in platforms.feishu.platform.calls]
    return refused + [f"Feishu {code}" for code in codes if code in LIMITED]


@pytest.mark.parametrize("seed", [1, 2])
def test_64_conversations_at_once_get_no_rate_limit(seed: int) -> None:
    world = World(seed, answers_at_once=300)
    assert simulated(_many_at_once(world)) == []
    assert len(world.asked) == 3 * CONVERSATIONS + 12


async def _two_bots(world: World) -> list[float]:
    """Have two bots call as often as they may for a minute; return the times of their calls."""
    lives = [Life(world, Chances()) for _ in range(2)]
    await lives[0].begin()
    lives[1].store._database.member = 1  # type: ignore[misc]
    bucket, times = Bucket("all", 5, 2.0), []

    async def calls(pacing: Pacing) -> None:
        while True:
            await pacing.turn("telegram", (bucket,), Urgency.REPLY)
            times.append(now())

    calling = [asyncio.create_task(calls(Pacing(life.store, now))) for life in lives]
    await asyncio.sleep(60.0)
    for task in calling:
        task.cancel()
    return times


def test_bots_on_one_database_share_the_pace() -> None:
    times = simulated(_two_bots(World(3)))
    assert 5 + 2 * 60 - 1 <= len(times) <= 5 + 2 * 60
    for first, later in zip(times, times[7:], strict=False):
        assert later - first >= 0.99


async def _served(world: World) -> list[str]:
    """Wait for turns, the least urgent first; return the order in which they are served."""
    life = Life(world, Chances())
    await life.begin()
    pacing, order = Pacing(life.store, now), []
    bucket, other = Bucket("all", 2, 1.0, reserved=1), Bucket("chat 2", 1, 0.01, of_chat=True)

    async def wait(name: str, urgency: Urgency, *buckets: Bucket) -> None:
        await pacing.turn("telegram", buckets, urgency)
        order.append(name)

    await pacing.turn("telegram", (bucket,), Urgency.REPLY)
    await pacing.turn("telegram", (bucket, other), Urgency.REPLY)
    names = [("piece", Urgency.PIECE), ("notice", Urgency.NOTICE), ("reply", Urgency.REPLY)]
    waiting = [asyncio.create_task(wait("slow chat", Urgency.REPLY, bucket, other))]
    waiting += [asyncio.create_task(wait(name, urgency, bucket)) for name, urgency in names]
    await asyncio.gather(*waiting)
    return order


def test_replies_are_served_before_notices_and_pieces_and_slow_chats_delay_none() -> None:
    assert simulated(_served(World(4))) == ["reply", "notice", "piece", "slow chat"]


async def _after_refusals(world: World, *chats: str) -> dict[str, int]:
    """Have calls in these chats refused for 30 s; return after how long calls in chats a and c are made."""
    life = Life(world, Chances())
    await life.begin()
    pacing, everywhere = Pacing(life.store, now), Bucket("all", 10, 10.0)

    def buckets(chat: str) -> tuple[Bucket, ...]:
        return Bucket(f"chat {chat}", 5, 1.0, of_chat=True), everywhere

    for chat in chats:
        await pacing.refused("telegram", buckets(chat), 30.0)
    waited: dict[str, int] = {}
    started = now()
    for chat in "ca":
        await pacing.turn("telegram", buckets(chat), Urgency.REPLY)
        waited[chat] = round(now() - started)
    return waited


def test_refusal_closes_its_chat_and_refusals_of_two_chats_close_all() -> None:
    assert simulated(_after_refusals(World(5), "a")) == {"c": 0, "a": 30}
    assert simulated(_after_refusals(World(6), "a", "b")) == {"c": 30, "a": 30}
