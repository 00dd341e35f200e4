"""A guard model that judges questions, over the OpenAI chat protocol."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Literal, Protocol

from clawd_runtime.bot.policy.file import ClassifierPart
from clawd_runtime.errors import RuntimeFault

log = logging.getLogger(__name__)

Judgement = Literal["safe", "unsafe", "unavailable"]
LONGEST_QUESTION = 16_000
_WORD = re.compile(r"[a-z]+")


class ClassifierUnavailable(RuntimeFault):
    """The guard model cannot be reached, refuses, or answers something else than a judgement."""


class GuardModel(Protocol):
    """Asks a guard model."""

    async def ask(self, settings: ClassifierPart, text: str) -> str:
        """Return the model's answer about `text`; raise `ClassifierUnavailable` on failure."""
        ...


async def judged(model: GuardModel, settings: ClassifierPart, text: str) -> Judgement:
    """Return the judgement of a guard model about a text, within its time limit.

    A long text is judged by its parts, which are asked about at once.
    """
    parts = [text[start : start + LONGEST_QUESTION] for start in range(0, len(text), LONGEST_QUESTION)]
    try:
        async with asyncio.timeout(settings.seconds):
            answers = await asyncio.gather(*(model.ask(settings, part) for part in parts))
            judgements = [judgement_of(answer, settings.unsafe) for answer in answers]
    except (ClassifierUnavailable, TimeoutError) as failure:
        log.warning(
            "the guard model %s gave no judgement: %s", settings.model, failure or "no answer in time"
        )
        return "unavailable"
    return "unsafe" if "unsafe" in judgements else "safe"


def judgement_of(answer: str, unsafe: list[str]) -> Judgement:
    """Return what an answer of a guard model says; raise `ClassifierUnavailable` if it is no judgement.

    Llama Guard answers `safe`, or `unsafe` and a line of categories; Qwen3Guard answers `Safety: Safe`,
    `Unsafe` or `Controversial`, and categories.
    """
    words = _WORD.findall(answer.lower())
    if words[:1] == ["safety"]:
        del words[0]
    first = words[0] if words else ""
    if first in {word.lower() for word in unsafe}:
        return "unsafe"
    if first in ("safe", "controversial", "unsafe"):
        return "safe"
    raise ClassifierUnavailable("the answer is no judgement")
