"""Handling of messages from inbox to outbox: one at a time per conversation, conversations concurrently."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

from clawd_runtime.bot.access.gate import AccessGate
from clawd_runtime.bot.channels.base import Channel
from clawd_runtime.bot.handling.interruptions import Interrupted, Interruptions
from clawd_runtime.bot.handling.keyed_queue import LaneRunner
from clawd_runtime.bot.handling.pacing import Pacing
from clawd_runtime.bot.handling.rate_limit import RateLimitVerdict
from clawd_runtime.bot.handling.replies import (
    formatted_contents,
    notes_below,
    numbered,
    parts_of_text,
    replies_to,
    tokens_used,
    visible,
)
from clawd_runtime.bot.handling.router import AlsoSay, AskModel, Ignore, Say
from clawd_runtime.bot.handling.streaming import AnswerStream
from clawd_runtime.bot.models.answering import Admission, Answerer
from clawd_runtime.bot.models.failures import (
    ContentFiltered,
    ContextTooLong,
    ModelFailure,
    NoAnswerReached,
    RequestRejected,
)
from clawd_runtime.bot.models.remote_policy import Asker
from clawd_runtime.bot.policy.answers import AnswerBlocked
from clawd_runtime.bot.policy.enforcement import Enforcement, QuestionBlocked
from clawd_runtime.bot.policy.values import PolicyMessage
from clawd_runtime.bot.service.metrics import Metrics
from clawd_runtime.bot.store.history import Turn
from clawd_runtime.bot.store.inbox import Answered, Behind, Task
from clawd_runtime.bot.store.store import Interruption, Queued, Settlement, Store
from clawd_runtime.bot.text.messages import Messages
from clawd_runtime.bot.values import Content, ConversationKey, Inbound, Reply, reply_key
from clawd_runtime.errors import ChannelError, StoreError, StoreRefused
from clawd_runtime.visible import is_blank

log = logging.getLogger(__name__)

# How often the handling of a message may fail before the bot apologises, and again before it gives up
# silently.
MOST_FAULTS = 3
# How often a model may be asked about a message without a stored result: each of these attempts ended with
# the process that made it. The last one is made alone among such messages: one of them may be the cause.
MOST_ATTEMPTS = 3
# Another bot handles the conversation, and sends a notice when it has finished; if the notice is lost:
LOOK_AGAIN_AFTER = 2.0
# Conversations handled concurrently: most of them wait at the gate of a model.
CONVERSATIONS_AT_ONCE = 1024
COMMANDS_AT_ONCE = 64
# After this time, a waiting user gets a notice with the number of messages ahead, which is then updated where
# the platform can. A message received earlier than `RECENT` seconds ago has waited behind another one of the
# conversation, so its sender expects the delay.
NOTICE_AFTER = 3.0
NOTICE_EVERY = 5.0
RECENT = 30.0
# Timeout for fetching the message that another one refers to.
QUOTE_SECONDS = 5.0


class Worker:
    """Handles stored messages; start with those that `Store.unfinished` returns."""

    def __init__(  # noqa: PLR0913 - its collaborators
        self,
        store: Store,
        gate: AccessGate,
        answerer: Answerer,
        channels: Mapping[str, Channel],
        metrics: Metrics,
        policy: Enforcement,
        clock: Callable[[], float] = time.time,
        pacing: Pacing | None = None,
    ) -> None:
        self._pacing = pacing or Pacing(store, clock)
        self._store = store
        self._gate = gate
        self._answerer = answerer
        self._channels = channels
        self._metrics = metrics
        self._policy = policy
        self._clock = clock
        # Decided but not stored yet: a second decision would count against the sender and ask the model
        # twice.
        self._made: dict[int, Settlement] = {}
        self._joined: dict[int, tuple[int, ...]] = {}
        self._faults: Counter[int] = Counter()
        self._at_gate: dict[int, asyncio.Task[Any]] = {}
        self._attempted: set[int] = set()
        self._alone = asyncio.Semaphore(1)
        self._interruptions = Interruptions()
        self._runner: LaneRunner[ConversationKey] = LaneRunner(self._handle, CONVERSATIONS_AT_ONCE)
        # Commands and announcements do not wait until one of these conversations has an answer.
        self._commands: LaneRunner[ConversationKey] = LaneRunner(self._handle, COMMANDS_AT_ONCE)

    def add(self, queued: list[Queued]) -> None:
        """Queue these messages. Those of a channel that is not configured stay stored."""
        for seq, conversation in queued:
            if (channel := self._channels.get(conversation.channel)) is not None:
                runner = self._commands if channel.announces else self._runner
                runner.put(conversation, seq)

    def add_commands(self, queued: list[Queued]) -> None:
        """Handle these messages without waiting for others of their conversations."""
        for seq, conversation in queued:
            if conversation.channel in self._channels:
                self._commands.put(conversation, seq)

    def interrupt(self, seq: int, why: Interruption) -> None:
        """Interrupt the handling of a message, if it is under way, for example while a model is asked."""
        self._interruptions.interrupt(seq, why)

    def wake(self, seq: int) -> bool:
        """Check a message again that waited for another bot; return False if it is not queued here."""
        return self._runner.wake(seq) or self._commands.wake(seq)

    def wake_all(self) -> None:
        """Check all messages again that wait for a retry, when the database is back."""
        self._runner.wake_all()
        self._commands.wake_all()

    def forget(self) -> None:
        """Drop decisions that are not stored yet, because other bots now own their messages."""
        self._made.clear()
        self._joined.clear()

    def begin_nothing(self) -> frozenset[int]:
        """Start no other message, release those that wait for a model, and return those being handled."""
        at_gate = frozenset(self._at_gate)
        for task in self._at_gate.values():
            task.cancel()
        return (self._runner.begin_nothing() | self._commands.begin_nothing()) - at_gate

    async def stop(self, grace: float) -> None:
        """Start no other message; those that are unfinished after `grace` seconds stay stored."""
        self.begin_nothing()
        await asyncio.gather(self._runner.stop(grace), self._commands.stop(grace))
        try:
            await self._store.withdraw_attempts(tuple(self._attempted))
        except StoreError as fault:
            log.error("%s", fault)

    async def _handle(self, seq: int) -> float | None:
        try:
            again_after = await self._settle(seq)
        except StoreRefused:
            # Retries would never end: the database does not accept the answer, or something in it.
            self._faults[seq] += 1
            self._metrics.store_fault()
            raise
        except StoreError:
            self._metrics.store_fault()
            raise
        except Exception:
            self._faults[seq] += 1
            raise
        self._faults.pop(seq, None)
        return again_after

    async def _settle(self, seq: int) -> float | None:
        """Handle a message; return the seconds until it must be checked again, None if it is finished."""
        task = await self._store.take(seq)
        match task:
            case None:
                self._made.pop(seq, None)
                return None
            case Behind():
                return LOOK_AGAIN_AFTER
        channel = self._channels[task.inbound.channel]
        settlement = self._made.get(seq)
        if self._faults[seq] >= MOST_FAULTS:
            settlement = self._give_up(task)
        elif settlement is None and task.attempts >= MOST_ATTEMPTS:
            settlement = self._give_up_poison(task)
        elif settlement is None:
            decided = await self._decide(task, channel)
            if decided is None:
                return 0.0  # the message was changed
            replies = tuple(map(self._policy.outbound.reply, decided.replies))
            settlement = replace(decided, replies=replies)
        else:
            # Not those that have followed since it was made.
            task = replace(task, joined=self._joined.get(seq, ()))
        if not settlement.replies and task.stream is not None and task.stream.takes_reply:
            # Else what was shown would look like an answer that still grows.
            words = (Content(self._gate.words(task.inbound).stopped),)
            settlement = replace(settlement, replies=numbered(task.inbound, words))
        self._made[seq], self._joined[seq] = settlement, task.joined
        settled_now = await self._store.settle(task, settlement)
        self._made.pop(seq, None)
        self._joined.pop(seq, None)
        self._attempted.discard(seq)
        if not settled_now:
            return 0.0  # it is handled, or belongs to another bot, or to this one under a new number: check
        if not settlement.replies:
            channel.left_unanswered(task.inbound.event_id)
        seconds = self._clock() - task.inbound.received_at
        self._metrics.message(channel.name, settlement.outcome, seconds)
        log.info("%s message %d: %s after %.2f s", channel.name, seq, settlement.outcome, seconds)
        return None

    async def _decide(self, task: Task, channel: Channel) -> Settlement | None:
        """Return the result of a message; None if it must be taken again, because it was interrupted."""
        places = channel.announced_to(task.inbound)
        if places is not None:
            return Settlement("announced", self._announcements(task.inbound, places))
        stream = AnswerStream(self._store, channel, task, self._pacing)
        result = self._result(task, channel, stream)
        try:
            return await self._interruptions.run((task.seq, *task.joined), result)
        except Interrupted as interruption:
            why = interruption.why
        if why == "stop" and stream.answer:
            return self._stopped_answer(task, channel, stream)
        if task.seq in self._attempted:
            await self._store.withdraw_attempts((task.seq,))
            self._attempted.discard(task.seq)
        return None

    async def _result(self, task: Task, channel: Channel, stream: AnswerStream) -> Settlement:
        task = replace(task, inbound=await self._with_quote(task, channel))
        decision = await self._gate.decide(task, channel)
        match decision:
            case Ignore(outcome):
                return Settlement(outcome)
            case Say(outcome, text, begins_anew, change, also):
                if task.doubts:
                    text = f"{text}\n\n{self._gate.words(task.inbound).earlier_in_doubt}"
                replies = replies_to(task.inbound, channel, text)
                if also is not None:
                    replies = (*replies, *self._to_another(task.inbound, also, len(replies)))
                return Settlement(
                    outcome, replies, begins_anew=begins_anew, explained=task.doubts, change=change
                )
            case AskModel(messages=words):
                if not task.stopped:
                    return await self._ask(task, channel, decision, stream)
                # In a chat, the command has an answer of its own; other clients wait for one to each message.
                replies = () if channel.is_chat else replies_to(task.inbound, channel, words.stopped)
                return Settlement("stopped", replies)

    def _stopped_answer(self, task: Task, channel: Channel, stream: AnswerStream) -> Settlement:
        """Return the result of a message that its sender has stopped: what was shown of its answer."""
        contents = visible(channel.formatted(stream.answer, self._gate.words(task.inbound).stopped))
        turns = (Turn("user", stream.question), Turn("assistant", stream.answer))
        return Settlement("stopped", numbered(task.inbound, contents), turns)

    def _to_another(self, inbound: Inbound, also: AlsoSay, number: int) -> tuple[Reply, ...]:
        """Return the messages to someone else, numbered after those of the answer."""
        place = also.conversation
        if place.channel not in self._channels:
            return ()
        contents = parts_of_text(self._channels[place.channel], also.text)
        keys = (reply_key(inbound.channel, inbound.event_id, number + part) for part in range(len(contents)))
        return tuple(
            Reply(key, inbound.event_id, place, "private", "", content.text, part, len(contents))
            for part, (key, content) in enumerate(zip(keys, contents, strict=True))
        )

    def _announcements(self, inbound: Inbound, places: Sequence[ConversationKey]) -> tuple[Reply, ...]:
        """Return the messages that announce an event to `places`, split by the channel of each."""
        split = [(place, parts_of_text(self._channels[place.channel], inbound.text)) for place in places]
        announcements = [
            Reply("", inbound.event_id, place, "group", "", content.text, number, len(contents))
            for place, contents in split
            for number, content in enumerate(contents)
        ]
        return tuple(
            replace(reply, key=reply_key(inbound.channel, inbound.event_id, number))
            for number, reply in enumerate(announcements)
        )

    def _give_up(self, task: Task) -> Settlement:
        """Return an apology, made without the parts that may have failed; after more failures, no answer."""
        if self._faults[task.seq] >= 2 * MOST_FAULTS:
            log.error("%s message %d: given up without an answer", task.inbound.channel, task.seq)
            return Settlement("failed")
        decision = self._gate.give_up(task.inbound)
        words = (Content(decision.text),) if isinstance(decision, Say) else ()
        return Settlement(decision.outcome, numbered(task.inbound, words))

    def _give_up_poison(self, task: Task) -> Settlement:
        """Return an apology for a message during whose handling the bot has ended too often."""
        log.error(
            "%s message %d: given up: the bot ended %d times while a model answered it",
            *(task.inbound.channel, task.seq, task.attempts),
        )
        decision = self._gate.give_up(task.inbound)
        words = (Content(decision.text),) if isinstance(decision, Say) else ()
        return Settlement("poison", numbered(task.inbound, words))

    async def _with_quote(self, task: Task, channel: Channel) -> Inbound:
        """Return the message with the content of the message it refers to, fetched if necessary."""
        inbound = task.inbound
        if inbound.quote is None or not inbound.quote.ref or task.verdict is not RateLimitVerdict.ALLOW:
            return inbound
        try:
            async with asyncio.timeout(QUOTE_SECONDS):
                return replace(inbound, quote=await channel.quoted(inbound.quote.ref))
        except (ChannelError, TimeoutError) as fault:
            log.info(
                "%s message %d: cannot fetch the quoted message: %s",
                *(channel.name, task.seq, fault or "no response in time"),
            )
        except Exception:
            log.exception(
                "internal error: %s message %d: fetching the quoted message failed", channel.name, task.seq
            )
        return inbound

    async def _ask(self, task: Task, channel: Channel, ask: AskModel, stream: AnswerStream) -> Settlement:
        inbound = task.inbound
        check = self._policy.check(f"{channel.name} message {task.seq}")
        try:
            # Before it waits for a model, whose places a slow guard model must not hold.
            await check.admit(ask.prompt(()))
            async with (
                stream,
                self._admitted(task, channel, ask, stream) as admission,
            ):
                history = await self._store.recall(inbound.conversation)
                question = await check.question(ask.prompt(history))
                await self._begin_attempt(task)
                async with channel.answering(inbound) as progress:
                    stream.answer_begins(question.text, progress)
                    answer = await admission.answer(history, question.text, check.progress(stream))
            answer = replace(answer, text=await check.answer(answer.text))
        except (StoreError, Interrupted):
            raise
        except QuestionBlocked as block:
            text = _declared(block.notice, ask.messages, ask.messages.question_blocked)
            return Settlement("question_blocked", replies_to(inbound, channel, text))
        except AnswerBlocked as block:
            check.blocked(block)
            text = _declared(block.hit.notice, ask.messages, ask.messages.answer_blocked)
            return Settlement("answer_blocked", replies_to(inbound, channel, text))
        except ContextTooLong:
            return Settlement("too_long", replies_to(inbound, channel, ask.messages.too_long))
        except ContentFiltered:
            return Settlement("filtered", replies_to(inbound, channel, ask.messages.filtered))
        except NoAnswerReached:
            return Settlement("only_reasoning", replies_to(inbound, channel, ask.messages.only_reasoning))
        except RequestRejected:
            return Settlement("model_failed", replies_to(inbound, channel, ask.messages.rejected))
        except ModelFailure:
            return Settlement("model_failed", replies_to(inbound, channel, ask.messages.model_failed))
        except Exception:
            log.exception("internal error: %s message %d: answering failed", channel.name, task.seq)
            return Settlement("failed", replies_to(inbound, channel, ask.messages.model_failed))
        if is_blank(answer.text):
            log.warning("%s message %d: the answer has no visible text", channel.name, task.seq)
            return Settlement("model_failed", replies_to(inbound, channel, ask.messages.model_failed))
        used = tokens_used(answer)
        if used is not None:
            self._metrics.tokens(channel.name, used)
        notes = notes_below(answer, ask, question.notices, task)
        contents = await formatted_contents(channel, answer.text, notes)
        return Settlement(
            "answered",
            numbered(inbound, visible(contents)),
            # Without the notes: a model that reads them would imitate them.
            (Turn("user", question.text), Turn("assistant", answer.text)),
            explained=task.doubts,
            answered=Answered(answer.source.model, answer.source.route) if answer.source else None,
            used=used,
            day=self._gate.day() if used else "",
        )

    async def _begin_attempt(self, task: Task) -> None:
        """Count an attempt; raise `Interrupted` if the message was changed or stopped since it was taken."""
        self._attempted.add(task.seq)
        if not await self._store.begin_attempt(task):
            self._attempted.discard(task.seq)
            raise Interrupted("edit")

    @asynccontextmanager
    async def _admitted(
        self, task: Task, channel: Channel, ask: AskModel, stream: AnswerStream
    ) -> AsyncIterator[Admission]:
        """Hold a place at a model; a message that waits for one can be released."""
        current = asyncio.current_task()
        assert current is not None
        self._at_gate[task.seq] = current
        free = self._answerer.is_free(_asker(task))
        signs = None if free else asyncio.create_task(self._show_waiting(task, channel, ask, stream))
        async with AsyncExitStack() as place:
            try:
                if task.attempts == MOST_ATTEMPTS - 1:
                    await place.enter_async_context(self._alone)
                admission = await place.enter_async_context(self._answerer.admission(_asker(task)))
            finally:
                del self._at_gate[task.seq]
                if signs is not None:
                    signs.cancel()
            yield admission

    async def _show_waiting(self, task: Task, channel: Channel, ask: AskModel, stream: AnswerStream) -> None:
        """Show that the message has arrived, and how many are ahead if it waits longer."""
        inbound, now = task.inbound, asyncio.get_running_loop().time
        started = now()

        def notice() -> str:
            return ask.messages.waiting.format(ahead=self._answerer.ahead(_asker(task)))

        try:
            await channel.received(inbound)
            if self._clock() - inbound.received_at > RECENT:
                return
            if task.repeated and not (channel.idempotent_for or stream.is_recorded):
                return  # the notice may have been sent, and the platform would not recognise a duplicate
            await asyncio.sleep(NOTICE_AFTER - (now() - started))
            if not stream.is_recorded:
                await channel.waiting(inbound, notice)
            while stream.is_recorded:
                stream.notify(notice())
                await asyncio.sleep(NOTICE_EVERY)
        except ChannelError as fault:
            log.info("%s message %d: %s", channel.name, task.seq, fault)
        except Exception:
            log.exception(
                "internal error: %s message %d: showing that it waits failed", channel.name, task.seq
            )


def _declared(message: PolicyMessage, words: Messages, own: str) -> str:
    """Return the message that a policy declares in the user's language, else the bot's `own`."""
    return message.text(words.language) or own


def _asker(task: Task) -> Asker:
    inbound = task.inbound
    return Asker(task.seq, inbound.conversation, inbound.user, inbound.chat_kind)
