"""The check of every message before it is answered: role, rights to commands, quotas, pairing."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from clawd_runtime.bot.access import pairing
from clawd_runtime.bot.access.commands import AccessCommands
from clawd_runtime.bot.access.current import CurrentAccess
from clawd_runtime.bot.access.file import AccessTable, DailyQuotas
from clawd_runtime.bot.access.quotas import QuotaState, exhausted_models, quota_states
from clawd_runtime.bot.access.roles import may_ask_for_access, role_of
from clawd_runtime.bot.access.values import CodeIssued, Person, UsageToday, has_rank, person_of
from clawd_runtime.bot.channels.base import Channel
from clawd_runtime.bot.handling.rate_limit import RateLimitVerdict
from clawd_runtime.bot.handling.router import AskModel, Decision, Ignore, Router, Say
from clawd_runtime.bot.models.remote_policy import Asker
from clawd_runtime.bot.store.inbox import Task
from clawd_runtime.bot.store.store import Store, StoredAccess
from clawd_runtime.bot.text.commands import command_of
from clawd_runtime.bot.text.messages import Messages
from clawd_runtime.bot.values import Inbound

log = logging.getLogger(__name__)

DEPARTMENTS_SECONDS = 5.0
NOTHING_STORED = StoredAccess(False, UsageToday())
"""The state where nothing stored decides."""


class AccessGate:
    """Decides about messages: by `router` alone without a table of access, else also by the table.

    `exhaust` is called with the models whose quota of the day is used up; it returns whether another is left
    for the message.
    """

    def __init__(
        self,
        router: Router,
        current: CurrentAccess,
        store: Store,
        exhaust: Callable[[frozenset[str], Asker], bool] = lambda _, asker: True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._router = router
        self._current = current
        self._store = store
        self._exhaust = exhaust
        self._clock = clock
        self._commands = AccessCommands(store, clock)

    def day(self) -> str:
        """Return the present day of the quotas."""
        table = self._current.table
        zone = table.zone() if table else UTC
        return datetime.fromtimestamp(self._clock(), zone).date().isoformat()

    def give_up(self, inbound: Inbound) -> Ignore | Say:
        """See `Router.give_up`."""
        return self._router.give_up(inbound)

    def words(self, inbound: Inbound) -> Messages:
        """See `Router.words`."""
        return self._router.words(inbound)

    async def decide(self, task: Task, channel: Channel) -> Decision:
        """Return the decision about a message; raise `StoreError` if the database cannot be read."""
        inbound = task.inbound
        decision = self._router.decide(inbound, task.verdict)
        if isinstance(decision, Ignore):
            return decision
        table = self._current.table or AccessTable(channels={channel.name: "open"})
        words, command = self._router.words(inbound), command_of(inbound.text)
        person = person_of(inbound, await _departments(table, channel, inbound.user))
        role, state = role_of(table, person, granted=False), NOTHING_STORED
        if role is None or command == "usage" or table.quotas != DailyQuotas():
            state = await self._store.access_state(person, self.day(), with_models=bool(table.quotas.models))
            role = role_of(table, person, granted=state.granted)
        if role is None:
            if task.verdict is not RateLimitVerdict.ALLOW:
                return Ignore("denied")
            return self._denied(table, person, state, words)
        if task.verdict is not RateLimitVerdict.ALLOW:
            return decision
        if command and not has_rank(role, table.right(command)):
            return Say("not_permitted", words.not_permitted.format(command=f"/{command}"))
        if command and (answer := await self._commands.answer(command, inbound, person, words)):
            return answer
        states = tuple(quota_states(table, person, state.usage))
        if command == "usage":
            return Say("command", usage_text(states, state, words))
        if not isinstance(decision, AskModel):
            return decision
        exhausted = exhausted_models(table, state.usage.models)
        asker = Asker(task.seq, inbound.conversation, inbound.user, inbound.chat_kind)
        left = self._exhaust(exhausted, asker)
        return _within_quotas(decision, states, models_left=left)

    def _denied(self, table: AccessTable, person: Person, state: StoredAccess, words: Messages) -> Decision:
        if not may_ask_for_access(table, person):
            # In groups no answer: everyone there could have the bot fill the chat.
            return Say("denied", words.denied) if person.chat_kind == "private" else Ignore("denied")
        now = self._clock()
        known = state.request is not None and pairing.is_valid(state.request, now)
        if not known and state.pending >= pairing.MOST_PENDING:
            log.warning("%s: no code for a new person: %d wait", person.conversation.channel, state.pending)
            return Ignore("denied")
        code = pairing.new_code()
        request = pairing.next_request(person, state.request, code, words.language, now)
        if request is None:
            return Ignore("denied")
        minutes = int(pairing.LIFETIME // 60)
        text = words.pairing_code.format(code=code, id=person.id, minutes=minutes)
        return Say("pairing", text, change=CodeIssued(request))


def _within_quotas(ask: AskModel, states: tuple[QuotaState, ...], *, models_left: bool) -> Decision:
    words = ask.messages
    spent = [quota for quota in states if quota.is_exhausted]
    if spent:
        of_user = spent[0].of == "user"
        return Say("quota", words.quota_exhausted_user if of_user else words.quota_exhausted_group)
    if not models_left:
        return Say("quota", words.quota_exhausted_models)
    near = {"user": words.quota_near_user, "group": words.quota_near_group}
    notes = [near[quota.of].format(percent=quota.percent) for quota in states if quota.warns]
    return replace(ask, note="\n".join(notes))


def usage_text(states: tuple[QuotaState, ...], state: StoredAccess, words: Messages) -> str:
    """Return the answer to `/usage`: what the person, and the group, have used today, and of how much."""
    limits: Mapping[str, int] = {quota.of: quota.limit for quota in states}
    user = (
        words.usage_limited.format(used=state.usage.user, limit=limits["user"])
        if "user" in limits
        else words.usage_unlimited.format(used=state.usage.user)
    )
    group = (
        words.usage_group.format(used=state.usage.group, limit=limits["group"]) if "group" in limits else ""
    )
    return "\n".join(filter(None, (user, group)))


async def _departments(table: AccessTable, channel: Channel, user: str) -> frozenset[str]:
    """Return the person's departments if the table names any of the channel; none if they cannot be read."""
    if not any(id.startswith(f"{channel.name}:") for id in table.departments):
        return frozenset()
    try:
        async with asyncio.timeout(DEPARTMENTS_SECONDS):
            return await channel.departments(user)
    except Exception as fault:
        log.warning("%s: cannot read the departments of a person: %s", channel.name, fault or "no answer")
        return frozenset()
