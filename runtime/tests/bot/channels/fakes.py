"""An inbox that stores messages in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from clawd_runtime.bot.ports import StoredAnswer, TokenUse
from clawd_runtime.bot.values import Inbound


class MemoryInbox:
    def __init__(self) -> None:
        self.stored: list[Inbound] = []
        self.states: dict[tuple[str, str], str] = {}
        self.answers: dict[str, StoredAnswer] = {}
        self.tokens: dict[str, str] = {}
        self.failure: Exception | None = None
        self.leading = True

    async def store(self, inbound: Inbound) -> bool:
        if self.failure:
            raise self.failure
        if any(inbound.event_id == known.event_id for known in self.stored):
            return False
        self.stored.append(inbound)
        return True

    async def store_all(self, inbounds: Sequence[Inbound], channel: str, state: Mapping[str, str]) -> None:
        for inbound in inbounds:
            await self.store(inbound)
        self.states |= {(channel, name): value for name, value in state.items()}

    async def state(self, channel: str, name: str) -> str | None:
        return self.states.get((channel, name))

    async def leads(self, role: str) -> bool:
        return self.leading

    async def use_token(self, token: str, request: str, expires_at: float) -> TokenUse:
        before = self.tokens.setdefault(token, request)
        return "same" if before == request else "other"

    async def answer_to(self, channel: str, event_id: str) -> StoredAnswer | None:
        return self.answers.get(event_id)
