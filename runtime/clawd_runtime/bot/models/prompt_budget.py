"""Fitting of a conversation into the context of a model."""

from __future__ import annotations

from clawd_runtime.bot.models.dialect import ChatMessage
from clawd_runtime.bot.store.history import Turn
from clawd_runtime.reasoning.splitter import separate

BYTES_A_TOKEN = 3
TOKENS_A_MESSAGE = 8
MARGIN_TOKENS = 32


def token_estimate(text: str) -> int:
    """Return an estimate of the tokens of a text, too high for most languages and tokenisers."""
    return -(-len(text.encode("utf-8", "surrogatepass")) // BYTES_A_TOKEN) + TOKENS_A_MESSAGE


def prompt_budget(context_size: int, max_reply_tokens: int) -> int:
    """Return the tokens left for the prompt after those reserved for the reply."""
    return context_size - max_reply_tokens - MARGIN_TOKENS


def fit(system_prompt: str, history: tuple[Turn, ...], question: str, budget: int) -> tuple[ChatMessage, ...]:
    """Return the messages for the model: system prompt, the newest exchanges that fit `budget`, the question.

    System prompt and question are always included, even if they alone exceed the budget: the model's server
    knows better whether that is too much. The included history begins with a user's turn.
    """
    left = budget - token_estimate(system_prompt) - token_estimate(question)
    kept: list[Turn] = []
    for turn in reversed(history):
        left -= token_estimate(turn.text)
        if left < 0:
            break
        kept.append(turn)
    while kept and kept[-1].role != "user":
        kept.pop()
    return (
        ChatMessage("system", system_prompt),
        *(ChatMessage(turn.role, _said(turn)) for turn in reversed(kept)),
        ChatMessage("user", question),
    )


def _said(turn: Turn) -> str:
    """Return the text of a turn without reasoning, which earlier releases stored with the answer."""
    return turn.text if turn.role == "user" else separate(turn.text)[1] or turn.text
