"""The commands of administrators: `/approve CODE` and `/revoke ID`."""

from __future__ import annotations

from collections.abc import Callable

from clawd_runtime.bot.access import pairing
from clawd_runtime.bot.access.values import (
    AccessRevoked,
    CodeApproved,
    CodeRefused,
    Grant,
    Person,
)
from clawd_runtime.bot.handling.router import AlsoSay, Say
from clawd_runtime.bot.store.store import Store
from clawd_runtime.bot.text.messages import CATALOGUE, Messages
from clawd_runtime.bot.values import Inbound

# Digest of no code, so that something that cannot be one is answered as slowly as a wrong one.
NO_CODE = ""


class AccessCommands:
    """Answers the commands; who may use them is already decided."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock

    async def answer(self, command: str, inbound: Inbound, person: Person, words: Messages) -> Say | None:
        """Return the answer to a command; None if it is not one of these."""
        argument = " ".join(inbound.text.split(maxsplit=1)[1:]).strip()
        match command:
            case "approve":
                return await self._approve(argument, person, words)
            case "revoke":
                return await self._revoke(argument, words)
        return None

    async def _approve(self, code: str, person: Person, words: Messages) -> Say:
        if not code:
            return Say("command", words.approve_usage)
        now = self._clock()
        guesses, request = await self._store.pairing(person, pairing.digest_of(code) or NO_CODE)
        if not pairing.may_guess(guesses, now):
            return Say("command", words.too_many_codes)
        if request is None or not pairing.is_valid(request, now):
            wrong = pairing.after_wrong_guess(guesses, now)
            change = CodeRefused(person.conversation.channel, person.user, wrong)
            return Say("command", words.wrong_code, change=change)
        id = f"{request.channel}:{request.user}"
        return Say(
            "command",
            words.approved.format(id=id),
            change=CodeApproved(Grant(request.channel, request.user, person.id, now)),
            also=AlsoSay(request.conversation, CATALOGUE[request.language].access_granted),
        )

    async def _revoke(self, id: str, words: Messages) -> Say:
        channel, _, user = id.partition(":")
        if not channel or not user:
            return Say("command", words.revoke_usage)
        if not await self._store.is_granted(channel, user):
            return Say("command", words.nothing_granted.format(id=id))
        return Say("command", words.revoked.format(id=id), change=AccessRevoked(channel, user))
