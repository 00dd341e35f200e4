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
SHOWN = frozenset(
    (
        *("alt", "caption", "content", "description", "href", "language"),
        *("name", "placeholder", "summary", "text", "title", "url"),
    )
)
"""Fields that people see, of the requests to all platforms. The others are read by programs: with a common
word in them masked, a platform would refuse every message. Credentials are masked everywhere."""
MESSAGE = {"msg_type", "content"}
"""The fields of a message of Feishu, whose content is JSON; elsewhere, `content` is a text."""


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
        return self._masked(text, everything=True)

    def value(self, value: Any) -> Any:
        """Return a text, or the body of a request with its texts masked, also those in JSON within it."""
        return self.text(value) if isinstance(value, str) else self._part(value, "", 0)

    def reply(self, reply: Reply) -> Reply:
        """Return a message as it may be stored and sent."""
        text, formatting = self.text(reply.text), self._json(reply.formatting, "", 0)
        if text == reply.text and formatting == reply.formatting:
            return reply
        return replace(reply, text=text, formatting=formatting)

    def _part(self, value: Any, field: str, depth: int) -> Any:
        """Return a part of a body, the value of this field."""
        if isinstance(value, str):
            return self.text(value) if field in SHOWN else self._json(value, field, depth)
        if depth > DEEPEST:
            return HIDDEN
        if isinstance(value, dict):
            in_json = "content" if value.keys() >= MESSAGE else None
            return {
                self._masked(key, everything=False): self._part(
                    part, key if key != in_json else "", depth + 1
                )
                for key, part in value.items()
            }
        if isinstance(value, list | tuple):
            return [self._part(part, field, depth + 1) for part in value]
        return value

    def _json(self, text: str, field: str, depth: int) -> str:
        """Return a string that programs read, with the texts in it masked if it is JSON."""
        try:
            parsed = json.loads(text) if text[:1] in ("{", "[") else None
        except (ValueError, RecursionError):
            parsed = None
        if parsed is None:
            return self._masked(text, everything=False)
        cleaned = self._part(parsed, field, depth + 1)
        return text if cleaned == parsed else json.dumps(cleaned, ensure_ascii=False)

    def _masked(self, text: str, *, everything: bool) -> str:
        """Return a text with what is forbidden masked, or only with credentials masked."""
        words = self._current.policy.words
        folded = FoldedText(text)
        matches = words.matches(folded)
        hits = [words.hit(each, folded) for each in matches if everything or words.groups[each.group].secret]
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
