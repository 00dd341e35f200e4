"""Text as Telegram counts and marks it: UTF-16 lengths, entities, HTML parse mode."""

from __future__ import annotations

import html
import re
from typing import Any

MESSAGE_UNITS = 4096

_COMMAND = re.compile(r"(?:(?<=\s)|^)/([a-zA-Z0-9_]{1,32})(?:@([a-zA-Z0-9_]{3,32}))?(?=\s|$|[^\w/@])")
_MENTION = re.compile(r"(?<!\w)@([a-zA-Z][a-zA-Z0-9_]{3,31})\b")
_TOKEN = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9-]*)((?:\s[^<>]*)?)>|<")
_KINDS = {
    **dict.fromkeys(("b", "strong"), "bold"),
    **dict.fromkeys(("i", "em"), "italic"),
    **dict.fromkeys(("u", "ins"), "underline"),
    **dict.fromkeys(("s", "strike", "del"), "strikethrough"),
    "code": "code",
    "pre": "pre",
    "blockquote": "blockquote",
    "tg-spoiler": "spoiler",
    "a": "text_link",
}


class BadMarkup(ValueError):
    """Text that the parse mode does not allow; the message is what the platform would say."""


def units(text: str) -> int:
    """Return the length in UTF-16 code units."""
    return len(text.encode("utf-16-le")) // 2


def found_entities(text: str) -> list[dict[str, Any]]:
    """Return commands and mentions that the platform detects, in order."""
    found = [("bot_command", match) for match in _COMMAND.finditer(text)]
    found += [
        ("mention", match)
        for match in _MENTION.finditer(text)
        if not any(command.start() <= match.start() < command.end() for _, command in found)
    ]
    return [
        {"type": kind, "offset": units(text[: match.start()]), "length": units(match.group())}
        for kind, match in sorted(found, key=lambda each: each[1].start())
    ]


def from_html(source: str) -> tuple[str, list[dict[str, Any]]]:
    """Return plain text and entities of HTML-style text (core.telegram.org/bots/api#html-style)."""
    plain, entities, open_tags, at = "", [], list[tuple[str, int, str]](), 0
    for token in _TOKEN.finditer(source):
        plain += html.unescape(source[at : token.start()])
        at = token.end()
        where = len(source[: token.start()].encode())
        closing, tag, attributes = token.group(1), (token.group(2) or "").lower(), token.group(3) or ""
        if tag not in _KINDS:
            raise BadMarkup(f'Unsupported start tag "{tag}" at byte offset {where}')
        if not closing:
            open_tags.append((tag, len(plain), attributes))
            continue
        if not open_tags:
            raise BadMarkup(f"Unexpected end tag at byte offset {where}")
        opened, start, attributes = open_tags.pop()
        if opened != tag:
            raise BadMarkup(
                f'Unmatched end tag at byte offset {where}, expected "</{opened}>", found "</{tag}>"'
            )
        entity = {"type": _KINDS[tag], "offset": units(plain[:start]), "length": units(plain[start:])}
        if link := re.search(r'href="([^"]*)"', attributes):
            entity["url"] = html.unescape(link.group(1))
        if entity["length"]:
            entities.append(entity)
    if open_tags:
        raise BadMarkup(f'Can\'t find end tag corresponding to start tag "{open_tags[-1][0]}"')
    return plain + html.unescape(source[at:]), sorted(entities, key=lambda each: int(str(each["offset"])))
