"""Checks that the system prompt, a question and the reply fit the context of a model.

Each conversation has the whole `context_size` to itself: the engine reserves that many tokens for each of its
`parallel` conversations. The tokens of the system prompt are counted with the vocabulary of the model's file
where it is on this machine, and otherwise estimated (`inventory.tokens`).
"""

from __future__ import annotations

from collections.abc import Iterator

from inventory.finding import Finding
from inventory.mistakes import dotted
from inventory.model import LocalModel, Model
from inventory.source import KeyPath
from inventory.tokens import most_tokens, token_count

QUESTION_TOKENS = 512
"""Tokens reserved for a question."""
TEMPLATE_TOKENS = 128
"""Tokens that the chat template and the bot add around the system prompt and the question."""


def counted(text: str, model: LocalModel, limit: int) -> int:
    """Return the tokens of a text for a local model; an upper bound where that is within `limit`.

    Raises `ArtifactError` when the file cannot be read.
    """
    bound = most_tokens(text)
    return bound if bound <= limit else token_count(text, model.path)


def left_for_prompt(model: Model, reply: int) -> int:
    """Return the tokens that the system prompt may have; negative when nothing is left."""
    return model.context_size - reply - QUESTION_TOKENS - TEMPLATE_TOKENS


def shortage(path: KeyPath, model: Model, prompt: int, reply: int, most: int = 0) -> Iterator[Finding]:
    """Yield a finding when a system prompt of `prompt` tokens does not fit.

    `most` is the context length of the model, 0 when unknown.
    """
    needed = prompt + QUESTION_TOKENS + TEMPLATE_TOKENS + reply
    if needed <= model.context_size:
        return
    size: KeyPath = (*path, "context_size")
    raising = f"raise `{dotted(size)}` to at least {needed}"
    shortening = "shorten `bot.system_prompt`" if prompt > reply else "lower `bot.max_reply_tokens`"
    at: tuple[KeyPath, ...] = (("bot", "max_reply_tokens"), size, path)
    if prompt > reply:
        at = (("bot", "system_prompt"), *at)
    yield Finding(
        at,
        f"a system prompt of about {prompt} tokens, a question of {QUESTION_TOKENS}, a chat template of "
        f"{TEMPLATE_TOKENS} and a reply of {reply} do not fit a context of {model.context_size}",
        shortening if 0 < most < needed else f"{raising}, or {shortening}",
        (("bot", "system_prompt"), ("bot", "max_reply_tokens"), size),
    )
