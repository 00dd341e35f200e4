"""Answers as Telegram messages with entities.

Sources: https://core.telegram.org/bots/api#messageentity, #formatting-options (nesting) and
https://core.telegram.org/api/entities (offsets in UTF-16 code units, at most 100 entities in a message).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

from clawd_runtime.bot.text.markdown.cutting import MessageLimits, cut
from clawd_runtime.bot.text.markdown.guard import guarded
from clawd_runtime.bot.text.markdown.layout import laid_out
from clawd_runtime.bot.text.markdown.reading import read_markdown
from clawd_runtime.bot.text.markdown.rich_text import RichText, Style
from clawd_runtime.bot.text.splitting import utf16_units
from clawd_runtime.bot.values import Content
from clawd_runtime.visible import is_blank

log = logging.getLogger(__name__)

MESSAGE_UNITS = 4096
MOST_ENTITIES = 100
LIMITS = MessageLimits(MESSAGE_UNITS, MOST_ENTITIES, utf16_units)
TYPES: dict[Style, str] = {
    "quote": "blockquote",
    "pre": "pre",
    "link": "text_link",
    "bold": "bold",
    "italic": "italic",
    "strike": "strikethrough",
    "code": "code",
}

TelegramEntity = dict[str, Any]


def formatted(markdown: str, notes: str = "") -> tuple[Content, ...]:
    """Return Markdown as messages, whose formatting is the JSON of their entities.

    `notes` are plain text below it. None is returned if the Markdown must be sent as plain text.
    """
    return guarded(lambda text: messages(text, notes), markdown)


def messages(markdown: str, notes: str = "") -> tuple[Content, ...]:
    """Return like `formatted`, but raise errors, and return texts that cannot be seen."""
    text = laid_out(read_markdown(markdown))
    if notes and not is_blank(text.text):
        text = RichText(f"{text.text}\n\n{notes}", text.spans)
    return tuple(Content(part.text, _stored(part)) for part in cut(text, LIMITS))


def entities_of(text: RichText) -> list[TelegramEntity]:
    """Return the entities of a message. Addresses that are their own label are clickable without one."""
    units = _units_before(text.text)
    entities = []
    for span in text.spans:
        if span.style == "link" and text.text[span.start : span.end] == span.detail:
            continue
        offset = units(span.start)
        entity: TelegramEntity = {
            "type": TYPES[span.style],
            "offset": offset,
            "length": units(span.end) - offset,
        }
        if span.style == "link":
            entity["url"] = span.detail
        elif span.style == "pre" and span.detail:
            entity["language"] = span.detail
        entities.append(entity)
    return entities


def stored_entities(formatting: str) -> list[TelegramEntity]:
    """Return the entities that were stored with a message; none if they cannot be read."""
    if not formatting:
        return []
    try:
        entities = json.loads(formatting)
    except ValueError:
        entities = None
    if isinstance(entities, list) and all(isinstance(entity, dict) for entity in entities):
        return entities
    log.warning("Telegram: unreadable formatting of a message; sending it as plain text")
    return []


def without_entities(text: str, entities: Sequence[TelegramEntity]) -> str:
    """Return a text to send without its entities: with the addresses of its links, if they fit."""
    raw, pieces, done = text.encode("utf-16-le"), [], 0
    for entity in entities:
        end = 2 * (entity.get("offset", 0) + entity.get("length", 0))
        if isinstance(entity.get("url"), str) and done < end <= len(raw):
            pieces += [raw[done:end].decode("utf-16-le", "replace"), f" ({entity['url']})"]
            done = end
    longer = "".join((*pieces, raw[done:].decode("utf-16-le", "replace")))
    return longer if utf16_units(longer) <= MESSAGE_UNITS else text


def _stored(text: RichText) -> str:
    entities = entities_of(text)
    return json.dumps(entities, ensure_ascii=False, separators=(",", ":")) if entities else ""


def _units_before(text: str) -> Any:
    """Return a function from a position to the UTF-16 code units before it."""
    if text.isascii() or max(text, default="") <= "\uffff":
        return lambda position: position
    units, used = [0], 0
    for character in text:
        used += 2 if character > "\uffff" else 1
        units.append(used)
    return units.__getitem__
