"""Membership with a failing presence. (Several bots on one PostgreSQL: test_replicas.)"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from clawd_runtime.bot.service import cluster
from clawd_runtime.bot.service.cluster import Cluster
from clawd_runtime.bot.store.history import Turn
from clawd_runtime.bot.store.members import Census, Notice
from clawd_runtime.bot.text.messages import EN
from clawd_runtime.errors import StoreError
from tests.bot.scripted import Chain, ScriptedChannel, message


class Presence:
    """A presence that raises `failures` first, and then works."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.looks = 0
        self.closed = 0

    async def new_number(self) -> int:
        return 7

    async def hold(self, number: int) -> bool:
        return True

    async def release(self) -> None:
        pass

    async def census(self, number: int) -> Census:
        self.looks += 1
        if self.failures:
            raise self.failures.pop(0)
        return Census(True, frozenset())

    async def notices(self, seconds: float) -> list[Notice]:
        await asyncio.sleep(seconds)
        return []

    async def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("failure", [StoreError("the connection is lost"), ValueError("a bug"), OSError()])
async def test_presence_failures_do_not_end_membership(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    """A member that misses its checks is evicted after seconds, and can store nothing from then on."""
    monkeypatch.setattr(cluster, "LOOK_EVERY", 0.01)
    monkeypatch.setattr(cluster, "RETURN_AFTER", 0.01)
    presence = Presence(failure)

    async def opened() -> Presence:
        return presence

    chain = Chain(tmp_path, ScriptedChannel())
    member = Cluster(chain.store, opened, chain.worker, chain.deliverer, chain.channels)
    await member.start()
    running = asyncio.create_task(member.run())
    async with asyncio.timeout(5.0):
        while presence.looks < 4:
            assert not running.done(), running.exception()
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await chain.stop()
    assert presence.closed == 1


async def test_command_found_among_unfinished_work_does_not_wait_for_a_running_answer(
    tmp_path: Path,
) -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def answer(history: tuple[Turn, ...], question: str) -> str:
        asked.set()
        await go_on.wait()
        return f"re: {question}"

    channel = ScriptedChannel()
    chain = Chain(tmp_path, channel, answer=answer)
    chain.store.on_message = chain.store.on_command = lambda queued: None
    await chain.store.join(1, chain.channels)
    await chain.store.store(message("1", "question"))
    await chain.store.store(message("2", " /help"))
    await chain.store.store(message("3", "/new"))
    await chain.store.leave()
    member = Cluster(chain.store, None, chain.worker, chain.deliverer, chain.channels)
    await member.start()
    async with asyncio.timeout(5.0):
        await asked.wait()
        while not channel.sent:
            await asyncio.sleep(0.005)
    assert channel.texts == [EN.help]
    go_on.set()
    await chain.settled()
    assert channel.texts == [EN.help, "re: question", EN.new_conversation]
    await chain.stop()
