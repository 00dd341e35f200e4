"""A model that follows a script, in the place of a client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

from clawd_runtime.bot.models.completion import Health
from clawd_runtime.bot.models.dialect import ChatMessage, RequestOrigin
from clawd_runtime.bot.models.failures import ModelFailure
from clawd_runtime.bot.models.separation import End, OutputPiece

Step = OutputPiece | End | float | ModelFailure
Script = str | ModelFailure | tuple[str, ModelFailure] | Sequence[Step]


class Scripted:
    """A model that follows a script, one entry per request; the last one is repeated.

    A text is an answer word by word; of a sequence, every `OutputPiece` and `End` is yielded and a number is
    a pause.
    """

    first_token_seconds: float | None = None
    token_gap_seconds = 60.0
    streams = True
    local = False
    label = "the model"

    def __init__(self, name: str, *script: Script, context_size: int = 1024) -> None:
        self.name = name
        self.context_size = context_size
        self.script = list(script)
        self.prompts: list[Sequence[ChatMessage]] = []
        self.loads_for = 0
        self.is_down = False
        self.probes = 0

    async def health(self) -> Health:
        self.probes += 1
        if self.is_down:
            return "down"
        self.loads_for -= 1
        return "loading" if self.loads_for >= 0 else "ready"

    async def stream(
        self, messages: Sequence[ChatMessage], max_tokens: int, origin: RequestOrigin | None = None
    ) -> AsyncGenerator[OutputPiece | End, None]:
        self.prompts.append(messages)
        entry = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        for step in _steps(entry):
            if isinstance(step, ModelFailure):
                raise step
            if isinstance(step, OutputPiece | End):
                yield step
            else:
                await asyncio.sleep(step)


def _steps(entry: Script) -> Sequence[Step]:
    match entry:
        case str():
            return [*(OutputPiece(word + " ") for word in entry.split()), End()]
        case ModelFailure():
            return [entry]
        case (str(text), ModelFailure() as failure):
            return [*(OutputPiece(word + " ") for word in text.split()), failure]
    return entry
