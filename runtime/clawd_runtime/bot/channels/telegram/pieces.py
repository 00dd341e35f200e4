"""Growing answers as texts of messages and drafts."""

from __future__ import annotations

from typing import Any

from clawd_runtime.bot.channels.telegram.formatting import MESSAGE_UNITS, formatted, stored_entities
from clawd_runtime.bot.text.splitting import shorten, utf16_units
from clawd_runtime.bot.values import Piece

# More than a message, because marks of Markdown are not shown.
LONGEST_MARKDOWN = 6000
# Shows that more follows, also where a crash has left a message behind.
MORE = " …"


def as_shown(markdown: str, *, plain: bool = False) -> dict[str, Any]:
    """Return the beginning of an answer as it will be sent: text and entities of its first message."""
    if not plain:
        for content in formatted(shorten(markdown, LONGEST_MARKDOWN))[:1]:
            entities = stored_entities(content.formatting)
            return {"text": content.text} | ({"entities": entities} if entities else {})
    return {"text": shorten(markdown, MESSAGE_UNITS)}


def unfinished(piece: Piece) -> dict[str, Any]:
    """Return text and entities of a piece, with a sign that more follows."""
    if piece.is_notice:
        return {"text": shorten(piece.text, MESSAGE_UNITS)}
    message = as_shown(piece.text)
    text = shorten(message["text"], MESSAGE_UNITS - len(MORE))
    end = utf16_units(text)
    entities = [each for each in message.get("entities", ()) if each["offset"] + each["length"] <= end]
    return {"text": text + MORE} | ({"entities": entities} if entities else {})
