"""The policy as the handling of messages uses it: one check for each message."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from clawd_runtime.bot.channels.base import AnswerProgress
from clawd_runtime.bot.policy.answers import AnswerBlocked, AnswerCheck
from clawd_runtime.bot.policy.classifier import GuardModel, judged
from clawd_runtime.bot.policy.current import CurrentPolicy
from clawd_runtime.bot.policy.file import Policy
from clawd_runtime.bot.policy.outbound import OutboundCheck
from clawd_runtime.bot.policy.rules import without
from clawd_runtime.bot.policy.values import Hit, PolicyMessage
from clawd_runtime.errors import RuntimeFault

T = TypeVar("T")

log = logging.getLogger(__name__)

PolicyStage = Literal["question", "answer", "outbound"]
CLASSIFIER = "classifier"
LONGEST_AT_ONCE = 8000
"""Characters that are checked within some milliseconds; more of them in a thread."""


class QuestionBlocked(RuntimeFault):
    """A question is not passed on to a model; `notice` is for the user."""

    def __init__(self, rule: str, notice: PolicyMessage) -> None:
        super().__init__(f"question blocked: rule {rule}")
        self.rule = rule
        self.notice = notice


class HitCounter(Protocol):
    """Counts what a policy finds."""

    def policy_hit(self, stage: str, rule: str, action: str) -> None:
        """Count a hit; `action` is `shadow` for one that has no effect."""
        ...


@dataclass(frozen=True, slots=True)
class CheckedQuestion:
    """A question as a model may see it; `notices` are for the user."""

    text: str
    notices: tuple[PolicyMessage, ...] = ()


class Enforcement:
    """The policy in force, applied to messages."""

    def __init__(
        self, current: CurrentPolicy, counter: HitCounter, guard_model: GuardModel | None = None
    ) -> None:
        self._current = current
        self._counter = counter
        self._guard_model = guard_model
        self.outbound = OutboundCheck(current, self._note_outbound)
        """The check of texts that are about to leave."""

    def check(self, message: str) -> MessageCheck:
        """Return the check of a message; `message` names it in the log."""
        return MessageCheck(self._current.policy, message, self._counter, self._guard_model)

    def _note_outbound(self, hit: Hit) -> None:
        _note(self._counter, self._current.policy, "outbound", "a message", (hit,))


class MessageCheck:
    """The check of one question and its answer, by the policy that was in force when it began."""

    def __init__(
        self, policy: Policy, message: str, counter: HitCounter, guard_model: GuardModel | None
    ) -> None:
        self._policy = policy
        self._message = message
        self._counter = counter
        self._guard_model = guard_model
        self._answer = AnswerCheck(policy)

    async def admit(self, text: str) -> None:
        """Check a question before it waits for a model; raise `QuestionBlocked` if no model may see it.

        The guard model sees what the rules leave of it.
        """
        hits = await _aside(self._policy.rules.hits, text)
        self._note("question", hits)
        _refuse_blocked(hits)
        await self._judge(without(text, hits))

    async def question(self, text: str) -> CheckedQuestion:
        """Return an admitted question as a model may see it; raise `QuestionBlocked` if it may not."""
        hits = await _aside(self._policy.rules.hits, text)
        _refuse_blocked(hits)
        checked = without(text, hits)
        notices = dict.fromkeys(
            hit.notice for hit in hits if not hit.shadow and hit.notice != PolicyMessage()
        )
        return CheckedQuestion(checked, tuple(notices))

    def progress(self, shown: AnswerProgress) -> AnswerProgress:
        """Return a progress that passes on to `shown` only what is permitted, or raises `AnswerBlocked`."""
        return self._answer.progress(shown, asyncio.get_running_loop().time)

    async def answer(self, text: str) -> str:
        """Return the answer as it may be shown and stored; raise `AnswerBlocked` if it may not be."""
        checked = await _aside(self._answer.complete, text)
        self._note("answer", checked.hits)
        return checked.text

    def blocked(self, block: AnswerBlocked) -> None:
        """Record that the answer was withheld."""
        self._note("answer", (block.hit,))

    async def _judge(self, text: str) -> None:
        settings = self._policy.classifier
        if settings is None or self._guard_model is None:
            return
        judgement = await judged(self._guard_model, settings, text)
        blocks = judgement == "unsafe" or (
            judgement == "unavailable" and settings.when_unavailable == "block"
        )
        if judgement == "safe":
            return
        notice = PolicyMessage(settings.message.en, settings.message.zh)
        action: Literal["block", "warn"] = "block" if blocks else "warn"
        self._note("question", (Hit(CLASSIFIER, judgement, action, 0, len(text), settings.shadow, notice),))
        if blocks and not settings.shadow:
            raise QuestionBlocked(CLASSIFIER, notice)

    def _note(self, stage: PolicyStage, hits: Iterable[Hit]) -> None:
        _note(self._counter, self._policy, stage, self._message, hits)


def _note(counter: HitCounter, policy: Policy, stage: PolicyStage, message: str, hits: Iterable[Hit]) -> None:
    """Count hits, and log each entry once: the entry is the policy's own text, never the user's."""
    found = Counter((hit.rule, hit.entry, "shadow" if hit.shadow else hit.action) for hit in hits)
    for (rule, entry, action), count in found.items():
        for _ in range(count):
            counter.policy_hit(stage, rule, action)
        log.info(
            "policy: %s of %s: %s by rule %s%s, %d times, version %s",
            *(stage, message, action, rule, f", entry {entry!r}" if entry else "", count, policy.version),
        )


def _refuse_blocked(hits: Iterable[Hit]) -> None:
    for hit in hits:
        if hit.acts and hit.action == "block":
            raise QuestionBlocked(hit.rule, hit.notice)


async def _aside(check: Callable[[str], T], text: str) -> T:
    return check(text) if len(text) <= LONGEST_AT_ONCE else await asyncio.to_thread(check, text)
