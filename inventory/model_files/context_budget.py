"""Checks that the system prompt, a question and the reply fit the context of a model.

Each conversation has the whole `context_size` to itself: the engine reserves that many tokens for each of
its `parallel` conversations. The tokens of the system prompt are counted with the vocabulary of the model's
file where it is on this machine, and otherwise estimated (`inventory.model_files.tokens`). What likely does
not fit is an error, what might not fit a warning.
"""

from __future__ import annotations

from collections.abc import Iterator

from inventory.model_files.tokens import TokenCount, most_tokens, token_count
from inventory.reading.source import KeyPath, dotted
from inventory.rule_findings import InventoryFinding
from inventory.sections.models import DeclaredModel, LocalModel

QUESTION_TOKENS = 512
"""Tokens reserved for a question."""
TEMPLATE_TOKENS = 128
"""Tokens that the chat template and the bot add around the system prompt and the question."""


def counted(text: str, model: LocalModel, limit: int) -> TokenCount:
    """Return the tokens of a text for a local model; an upper bound where that is within `limit`.

    Raises `ArtifactError` when the file cannot be read.
    """
    bound = most_tokens(text)
    return TokenCount(bound, bound) if bound <= limit else token_count(text, model.path)


def left_for_prompt(model: DeclaredModel, reply: int) -> int:
    """Return the tokens that the system prompt may have; negative when nothing is left."""
    return model.context_size - reply - QUESTION_TOKENS - TEMPLATE_TOKENS


def shortage(
    path: KeyPath, model: DeclaredModel, prompt: TokenCount, reply: int, most: int = 0
) -> Iterator[InventoryFinding]:
    """Yield a finding when a system prompt of `prompt` tokens does not fit, a warning when it might not.

    `most` is the context length of the model, 0 when unknown.
    """
    rest = QUESTION_TOKENS + TEMPLATE_TOKENS + reply
    needed, safe = prompt.likely + rest, prompt.most + rest
    if safe <= model.context_size:
        return
    is_warning = needed <= model.context_size
    tokens, about, fails = (
        (prompt.most, "up to", "might not fit") if is_warning else (prompt.likely, "about", "do not fit")
    )
    size: KeyPath = (*path, "context_size")
    # The safe size, unless only the likely one is possible.
    enough = needed if 0 < most < safe and not is_warning else safe
    raising = f"raise `{dotted(size)}` to at least {enough}"
    shortening = "shorten `bot.system_prompt`" if tokens > reply else "lower `bot.max_reply_tokens`"
    at: tuple[KeyPath, ...] = (("bot", "max_reply_tokens"), size, path)
    if tokens > reply:
        at = (("bot", "system_prompt"), *at)
    yield InventoryFinding(
        at,
        f"a system prompt of {about} {tokens} tokens, a question of {QUESTION_TOKENS}, a chat template of "
        f"{TEMPLATE_TOKENS} and a reply of {reply} {fails} a context of {model.context_size}",
        shortening if 0 < most < enough else f"{raising}, or {shortening}",
        (("bot", "system_prompt"), ("bot", "max_reply_tokens"), size),
        is_warning,
    )
