"""From the inbox to the outbox: one message of a conversation at a time, conversations side by side."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from clawd_runtime.bot.answering import Answerer
from clawd_runtime.bot.channels.base import Channel
from clawd_runtime.bot.completion import ContextTooLong, ModelFailure
from clawd_runtime.bot.lanes import LaneRunner
from clawd_runtime.bot.metrics import Metrics
from clawd_runtime.bot.router import Ask, Ignore, Router, Say
from clawd_runtime.bot.store.history import Turn
from clawd_runtime.bot.store.store import Queued, Settlement, Store, Task
from clawd_runtime.bot.values import ConversationKey, Inbound, Reply, reply_key
from clawd_runtime.errors import StoreError

log = logging.getLogger(__name__)

# So often the handling of a message may fail before we give it up.
MOST_FAULTS = 3
# Conversations looked after at once; of these only `answers_at_once` wait for a model.
CONVERSATIONS_AT_ONCE = 512


class Worker:
    """Deals with stored messages until none is left; begin with what `Store.unfinished` tells."""

    def __init__(
        self,
        store: Store,
        router: Router,
        answerer: Answerer,
        channels: Mapping[str, Channel],
        metrics: Metrics,
        answers_at_once: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._router = router
        self._answerer = answerer
        self._channels = channels
        self._metrics = metrics
        self._gate = asyncio.Semaphore(answers_at_once)
        self._clock = clock
        # Decided but not stored yet: deciding again would count against the sender and ask the model twice.
        self._made: dict[int, Settlement] = {}
        self._faults: Counter[int] = Counter()
        self._runner: LaneRunner[ConversationKey, int] = LaneRunner(self._handle, CONVERSATIONS_AT_ONCE)

    def add(self, queued: list[Queued]) -> None:
        """Deal with these messages. Those of a channel that is not configured stay stored."""
        for seq, conversation in queued:
            if conversation.channel in self._channels:
                self._runner.put(conversation, seq)

    async def stop(self, grace: float) -> None:
        """Begin no other message; what is not finished after `grace` seconds stays stored."""
        await self._runner.stop(grace)

    async def _handle(self, seq: int) -> None:
        try:
            await self._settle(seq)
        except StoreError:
            raise
        except Exception:
            self._faults[seq] += 1
            raise
        self._faults.pop(seq, None)

    async def _settle(self, seq: int) -> None:
        task = await self._store.task(seq)
        if task is None:
            self._made.pop(seq, None)
            return
        channel = self._channels[task.inbound.channel]
        if self._faults[seq] >= MOST_FAULTS:
            self._made[seq] = self._give_up(task)
        elif seq not in self._made:
            self._made[seq] = await self._deal_with(task, channel)
        settlement = self._made[seq]
        settled_now = await self._store.settle(task, settlement)
        del self._made[seq]
        if not settled_now:
            return
        if not settlement.replies:
            channel.left_unanswered(task.inbound.event_id)
        seconds = self._clock() - task.inbound.received_at
        self._metrics.message(channel.name, settlement.outcome, seconds)
        log.info("%s message %d: %s after %.2f s", channel.name, seq, settlement.outcome, seconds)

    async def _deal_with(self, task: Task, channel: Channel) -> Settlement:
        places = channel.announced_to(task.inbound)
        if places is not None:
            return Settlement("announced", self._announcements(task.inbound, places))
        decision = self._router.decide(task.inbound)
        match decision:
            case Ignore(outcome):
                return Settlement(outcome)
            case Say(outcome, text, begins_anew):
                return Settlement(outcome, replies_to(task.inbound, channel, text), begins_anew=begins_anew)
            case Ask():
                return await self._ask(task, channel, decision)

    def _announcements(self, inbound: Inbound, places: Sequence[ConversationKey]) -> tuple[Reply, ...]:
        """The messages that tell `places` of an event, cut as the channel of each needs it."""
        cut = [(place, self._channels[place.channel].split(inbound.text)) for place in places]
        told = [
            Reply("", inbound.event_id, place, "group", "", text, number, len(texts))
            for place, texts in cut
            for number, text in enumerate(texts)
        ]
        return tuple(
            replace(reply, key=reply_key(inbound.channel, inbound.event_id, number))
            for number, reply in enumerate(told)
        )

    def _give_up(self, task: Task) -> Settlement:
        """Apologise, without what may have failed."""
        decision = self._router.give_up(task.inbound)
        words = (decision.text,) if isinstance(decision, Say) else ()
        return Settlement(decision.outcome, _numbered(task.inbound, words))

    async def _ask(self, task: Task, channel: Channel, ask: Ask) -> Settlement:
        inbound = task.inbound
        try:
            async with self._gate:
                history = await self._store.recall(inbound.conversation)
                async with channel.answering(inbound) as progress:
                    answer = await self._answerer.answer(history, ask.question, progress)
        except StoreError:
            raise
        except ContextTooLong:
            return Settlement("too_long", replies_to(inbound, channel, ask.messages.too_long))
        except ModelFailure:
            return Settlement("model_failed", replies_to(inbound, channel, ask.messages.model_failed))
        except Exception:
            log.exception("%s message %d: answering failed", channel.name, task.seq)
            return Settlement("failed", replies_to(inbound, channel, ask.messages.model_failed))
        return Settlement(
            "answered",
            replies_to(inbound, channel, answer),
            (Turn("user", ask.question), Turn("assistant", answer)),
        )


def replies_to(inbound: Inbound, channel: Channel, text: str) -> tuple[Reply, ...]:
    """The messages that make up an answer, cut as the channel needs it."""
    return _numbered(inbound, channel.split(text))


def _numbered(inbound: Inbound, parts: tuple[str, ...]) -> tuple[Reply, ...]:
    return tuple(
        Reply(
            key=reply_key(inbound.channel, inbound.event_id, number),
            event_id=inbound.event_id,
            conversation=inbound.conversation,
            chat_kind=inbound.chat_kind,
            reply_to=inbound.reply_to,
            text=part,
            part=number,
            parts=len(parts),
        )
        for number, part in enumerate(parts)
    )
