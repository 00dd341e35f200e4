"""Shared parts of the bot's tests: a channel, a model's server, and the real core between them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar, cast

from clawd_runtime.bot.access.current import CurrentAccess
from clawd_runtime.bot.access.gate import AccessGate
from clawd_runtime.bot.channels.base import (
    AnswerProgress,
    Channel,
    ChannelContext,
    ChannelSettings,
    NoProgress,
)
from clawd_runtime.bot.handling.deliverer import Deliverer
from clawd_runtime.bot.handling.router import Router
from clawd_runtime.bot.handling.worker import Worker
from clawd_runtime.bot.models.answering import Answerer
from clawd_runtime.bot.models.attempt import ModelAnswer
from clawd_runtime.bot.models.gate import QueueSemaphore
from clawd_runtime.bot.models.remote_policy import Asker
from clawd_runtime.bot.policy.current import CurrentPolicy
from clawd_runtime.bot.policy.enforcement import Enforcement
from clawd_runtime.bot.service.metrics import Metrics
from clawd_runtime.bot.settings import BotLanguage
from clawd_runtime.bot.store.backends.database import open_database
from clawd_runtime.bot.store.history import Turn
from clawd_runtime.bot.store.store import Store
from clawd_runtime.bot.values import ConversationKey, Inbound, Reply, SentRef

Outcome = Exception | None


def message(event: str, text: str = "hello", *, chat: str = "1", user: str = "1", **changes: Any) -> Inbound:
    fields: dict[str, Any] = {
        "event_id": event,
        "message_id": f"m{event}",
        "conversation": ConversationKey("scripted", chat),
        "chat_kind": "private",
        "user": user,
        "text": text,
        "addressed": True,
        "reply_to": event,
        "received_at": time.time(),
    }
    return Inbound(**fields | changes)


class ScriptedChannel(Channel):
    """A channel that records the replies to send; `outcomes` are the results of the first attempts."""

    name = "scripted"
    Settings = ChannelSettings
    idempotent_for: ClassVar[float] = 0.0

    def __init__(self, *outcomes: Outcome) -> None:
        super().__init__(None, cast(ChannelContext, None))
        self.outcomes = list(outcomes)
        self.attempts: list[Reply] = []
        self.sent: list[Reply] = []
        self.unanswered: list[str] = []
        self.shown = 0

    async def send(self, reply: Reply) -> SentRef:
        self.attempts.append(reply)
        await asyncio.sleep(0)
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if outcome is not None:
            raise outcome
        self.sent.append(reply)
        return SentRef(str(len(self.sent)))

    def split(self, text: str) -> tuple[str, ...]:
        return tuple(text.split("|"))

    @asynccontextmanager
    async def answering(self, inbound: Inbound) -> AsyncIterator[AnswerProgress]:
        self.shown += 1
        yield NoProgress()

    def left_unanswered(self, event_id: str) -> None:
        self.unanswered.append(event_id)

    @property
    def texts(self) -> list[str]:
        return [reply.text for reply in self.sent]


class IdempotentChannel(ScriptedChannel):
    idempotent_for = 3600.0


class ScriptedAnswerer:
    """An answerer that returns or raises the result of `answer`."""

    def __init__(self, answer: Callable[[tuple[Turn, ...], str], Any]) -> None:
        self._answer = answer

    async def answer(self, history: tuple[Turn, ...], question: str, progress: AnswerProgress) -> ModelAnswer:
        result = self._answer(history, question)
        answered: str | ModelAnswer = await result if asyncio.iscoroutine(result) else result
        return ModelAnswer(answered) if isinstance(answered, str) else answered


class ScriptedModels:
    """A gate with places, in front of an answerer without one."""

    def __init__(self, answerer: Any, places: int) -> None:
        self._answerer = answerer
        self._gate = QueueSemaphore(places)

    def is_free(self, asker: Asker) -> bool:
        return self._gate.is_free

    def ahead(self, asker: Asker) -> int:
        return self._gate.ahead(asker.number)

    @asynccontextmanager
    async def admission(self, asker: Asker) -> AsyncIterator[Any]:
        async with self._gate.place(asker.number, (asker.conversation.channel, asker.user)):
            yield self._answerer


class Chain:
    """Store, worker and deliverer, connected like in the bot."""

    def __init__(
        self,
        folder: Path,
        *channels: Channel,
        answer: Callable[[tuple[Turn, ...], str], Any] = lambda history, question: f"re: {question}",
        limit: int = 1000,
        at_once: int = 8,
        clock: Callable[[], float] = time.time,
        answerer: Any = None,
        language: BotLanguage = "en",
        policy: CurrentPolicy | None = None,
        guard_model: Any = None,
        access: CurrentAccess | None = None,
    ) -> None:
        self.database = open_database(f"sqlite:///{folder}/bot.db")
        self.store = Store(self.database, clock, limit=limit)
        self.metrics = Metrics()
        by_name = {channel.name: channel for channel in channels}
        self.channels = tuple(by_name)
        if not isinstance(answerer, Answerer):
            answerer = cast(Answerer, ScriptedModels(answerer or ScriptedAnswerer(answer), at_once))
        self.access = access or CurrentAccess(None)
        gate = AccessGate(Router(language, limit), self.access, self.store, clock=clock)
        self.policy = Enforcement(policy or CurrentPolicy(None, {}), self.metrics, guard_model)
        self.worker = Worker(self.store, gate, answerer, by_name, self.metrics, self.policy, clock)
        self.deliverer = Deliverer(self.store, by_name, self.metrics, clock)
        self.store.on_message = self.worker.add
        self.store.on_command = self.worker.add_commands
        self.store.on_interruption = self.worker.interrupt
        self.store.on_reply = self.deliverer.add

    async def take_up(self) -> None:
        await self.store.join(1, self.channels)
        unfinished = await self.store.unfinished()
        self.deliverer.add(unfinished.replies)
        self.worker.add_commands(unfinished.commands)
        self.worker.add(unfinished.messages)

    async def settled(self, seconds: float = 10.0) -> None:
        """Wait until all work is finished."""
        async with asyncio.timeout(seconds):
            while True:
                depths = await self.store.depths()
                if not depths.inbox and not {"pending", "sending"} & depths.outbox.keys():
                    return
                await asyncio.sleep(0.005)

    async def stop(self) -> None:
        await self.worker.stop(0.05)
        await self.deliverer.stop(0.05)
        await asyncio.to_thread(self.database.close)

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, {"channel": "scripted", **labels}) or 0.0


@asynccontextmanager
async def running(chain: Chain) -> AsyncIterator[Chain]:
    await chain.take_up()
    try:
        yield chain
    finally:
        await chain.stop()
