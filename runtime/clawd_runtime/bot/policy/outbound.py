"""The last check before a message leaves: of the texts as users see them, on every path."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from clawd_runtime.bot.policy.current import CurrentPolicy
from clawd_runtime.bot.policy.folding.text import FoldedText
from clawd_runtime.bot.policy.values import MASK, Hit
from clawd_runtime.bot.values import Reply

DEEPEST = 40
HIDDEN = "…"


class OutboundCheck:
    """Masks what is forbidden in texts that are about to leave.

    Answers are checked before: what is found here appears only when Markdown is rendered, or was not made
    by a model. A mask has the length of the text in UTF-16: the offsets of formatting stay right.
    """

    def __init__(self, current: CurrentPolicy, on_hit: Callable[[Hit], None] = lambda _: None) -> None:
        self._current = current
        self._on_hit = on_hit

    def text(self, text: str) -> str:
        """Return a text with what is forbidden masked."""
        words = self._current.policy.words
        folded = FoldedText(text)
        hits = [words.hit(match, folded) for match in words.matches(folded)]
        parts: list[str] = []
        position = 0
        for hit in hits:
            if not hit.acts or hit.end <= position:
                continue
            self._on_hit(hit)
            parts.append(text[position : hit.start])
            hidden = text[max(hit.start, position) : hit.end]
            parts.append(MASK * (len(hidden.encode("utf-16-le", "surrogatepass")) // 2))
            position = hit.end
        return "".join((*parts, text[position:])) if parts else text

    def value(self, value: Any, depth: int = 0) -> Any:
        """Return the body of a request with all of its texts masked, also those in JSON within it."""
        if isinstance(value, str):
            return self._json(value, depth) if value[:1] in ("{", "[") else self.text(value)
        if depth > DEEPEST:
            return HIDDEN
        if isinstance(value, dict):
            return {key: self.value(part, depth + 1) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(part, depth + 1) for part in value]
        return value

    def reply(self, reply: Reply) -> Reply:
        """Return a message as it may be stored and sent."""
        text, formatting = self.text(reply.text), self.value(reply.formatting)
        if text == reply.text and formatting == reply.formatting:
            return reply
        return replace(reply, text=text, formatting=formatting)

    def _json(self, text: str, depth: int) -> str:
        try:
            parsed = json.loads(text)
        except (ValueError, RecursionError):
            return self.text(text)
        cleaned = self.value(parsed, depth + 1)
        return text if cleaned == parsed else json.dumps(cleaned, ensure_ascii=False)
