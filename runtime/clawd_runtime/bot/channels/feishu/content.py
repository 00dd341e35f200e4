"""Parsing of the content of Feishu's messages by type (open platform, "Message content")."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field

from clawd_runtime.bot.foreign_json import (
    Foreign,
    ForeignJsonError,
    ForeignName,
    ForeignText,
    read_as,
    read_json,
)
from clawd_runtime.bot.values import MessagePart, PartKind

# The types that are not text, each with its kind and the field of its content with its name.
PARTS: Mapping[str, tuple[PartKind, str]] = {
    "audio": ("voice", ""),
    "calendar": ("event", "summary"),
    "file": ("file", "file_name"),
    "folder": ("file", "file_name"),
    "general_calendar": ("event", "summary"),
    "hongbao": ("other", ""),
    "image": ("picture", ""),
    "interactive": ("card", ""),
    "location": ("location", "name"),
    "media": ("video", "file_name"),
    "merge_forward": ("forwarded", ""),
    "share_calendar_event": ("event", "summary"),
    "share_chat": ("contact", ""),
    "share_user": ("contact", ""),
    "sticker": ("sticker", ""),
    "todo": ("checklist", ""),
    "video_chat": ("event", "topic"),
    "vote": ("poll", "topic"),
}
# Parts within a rich text or a card.
PIECES: Mapping[str, PartKind] = {
    "audio": "voice",
    "chat_history": "forwarded",
    "doc_card": "file",
    "file": "file",
    "img": "picture",
    "img_combination": "picture",
    "media": "video",
    "mention_doc": "file",
    "sheet": "file",
    "share_chat": "contact",
    "share_user": "contact",
    "sticker": "sticker",
    "table": "other",
    "video": "video",
    "vote": "poll",
}
# Tags of pieces that have only text, or nothing.
WORDS_ONLY = frozenset(
    (
        *("", "text", "md", "markdown", "plain_text", "lark_md", "p", "div", "note", "code", "code_block"),
        *("hr", "br", "action", "actions", "button", "overflow", "column", "column_set", "form", "icon"),
        *(
            "standard_icon",
            "custom_icon",
            "collapsible_panel",
            "interactive_container",
            "quote",
            "blockquote",
        ),
    )
)
PLACEHOLDER = re.compile(r"(@_user_\d+|@_all)( ?)")
# Mentions in Markdown, and in texts written by programs.
AT_TAG = re.compile(
    r"<at\s+(?:user_)?id\s*=\s*[\"']?([^\"'\s>]{1,128})[\"']?\s*>([^<]{0,128})(?:</at>)?( ?)", re.IGNORECASE
)
DEEPEST = 20
LONGEST_TAG = 40
EVERYBODY = "all"


@dataclass(frozen=True, slots=True)
class FeishuMention:
    """A mention in a message, where its text has `key`."""

    key: str
    open_id: str
    name: str


@dataclass(slots=True)
class FeishuContent:
    """The content of a message: its text, its other parts, and the ids mentioned in its text."""

    text: str = ""
    parts: list[MessagePart] = field(default_factory=list)
    named: set[str] = field(default_factory=set)


class TextContent(Foreign):
    """The content of a text message."""

    text: ForeignText


class RichTextElement(Foreign):
    """A piece of a line of a rich text, or an element of a card."""

    tag: ForeignName = ""
    text: Any = None
    content: Any = None
    href: Any = None
    user_id: Any = None
    user_name: Any = None
    emoji_type: Any = None
    file_name: Any = None
    title: Any = None
    name: Any = None
    elements: Any = None
    columns: Any = None
    fields: Any = None


class Post(Foreign):
    """A rich text message, or a received card."""

    title: ForeignText | None = None
    content: Annotated[list[Any], Field(fail_fast=True, max_length=5000)] | None = None
    elements: Annotated[list[Any], Field(fail_fast=True, max_length=5000)] | None = None


def read_content(
    kind: str, raw: str, mentions: Sequence[FeishuMention], bot_open_id: str | None
) -> FeishuContent:
    """Return the content of a message of type `kind`, without mentions of the bot and with others by name.

    Raise `ForeignJsonError` if the content does not match the type.
    """
    content = FeishuContent()
    if kind == "text":
        content.text = read_as(TextContent, read_json(raw)).text
    elif kind in ("post", "interactive"):
        _read_post(content, kind, raw)
    else:
        part, name = PARTS.get(kind, ("other", ""))
        content.parts.append(
            MessagePart(part, _named_in(raw, name) or (kind[:LONGEST_TAG] if part == "other" else ""))
        )
    content.text = _with_names(content, mentions, bot_open_id).strip()
    return content


def _read_post(content: FeishuContent, kind: str, raw: str) -> None:
    """Add the title and lines of a rich text message, which may be nested under a language."""
    found = read_json(raw)
    if kind == "post" and isinstance(found, dict) and "content" not in found:
        found = next(iter(found.values()), {})
    post = read_as(Post, found)
    lines = [_line(content, line) for line in post.content or post.elements or ()]
    if kind == "interactive":
        lines = [line for line in lines if line]
        if not lines and not post.title:
            content.parts.append(MessagePart("card"))
    content.text = "\n".join([*filter(None, [post.title]), *lines])


def _line(content: FeishuContent, line: object, depth: int = 0) -> str:
    """Return the text of a line of pieces, or of an element of a card, which may be nested."""
    if depth > DEEPEST:
        raise ForeignJsonError("content nested too deeply")
    if isinstance(line, list):
        return "".join(_line(content, piece, depth + 1) for piece in line)
    return _piece(content, read_as(RichTextElement, line), depth)


def _piece(content: FeishuContent, piece: RichTextElement, depth: int) -> str:
    match piece.tag:
        case "a":
            label, address = _words(piece.text), _words(piece.href)
            return label if label == address or not address else f"{label} ({address})"
        case "at":
            user, name = _words(piece.user_id), _words(piece.user_name)
            # Written as a tag, which is replaced like all others below: it names a key or an id.
            return f'<at id="{user}">{name.replace("<", "")}</at>' if user else f"@{name}"
        case "emotion":
            emoji = " ".join(_words(piece.emoji_type).split())
            return f"[{emoji}]" if emoji else ""
        case tag if tag in PIECES:
            content.parts.append(MessagePart(PIECES[tag], _name_of(piece)))
            return ""
    inner = [each for each in (piece.elements, piece.columns, piece.fields) if isinstance(each, list)]
    below = "\n".join(filter(None, (_line(content, each, depth + 1) for group in inner for each in group)))
    own = _words(piece.text) or _words(piece.content)
    if not (own or inner or piece.tag in WORDS_ONLY):
        content.parts.append(MessagePart("other", _name_of(piece) or piece.tag[:LONGEST_TAG]))
    return "\n".join(filter(None, (own, below))) if below else own


def _name_of(piece: RichTextElement) -> str:
    """Return the name of a piece that is not text."""
    names = map(_words, (piece.file_name, piece.title, piece.name, piece.text))
    return next(filter(None, names), "")[:200]


def _words(value: object) -> str:
    """Return a text, or that of a card's text object; empty for other values."""
    if isinstance(value, dict):
        value = value.get("content", value.get("text"))
    try:
        return read_as(TextContent, {"text": value}).text if isinstance(value, str) else ""
    except ForeignJsonError:
        return ""


def _named_in(raw: str, name: str) -> str:
    """Return the field `name` of a content, which is not always JSON (merge_forward)."""
    try:
        found = read_json(raw) if name else None
    except ForeignJsonError:
        return ""
    return _words(found.get(name))[:200] if isinstance(found, dict) else ""


def _with_names(content: FeishuContent, mentions: Sequence[FeishuMention], bot_open_id: str | None) -> str:
    by_key = {each.key: each for each in mentions}
    by_id = {each.open_id: each for each in mentions if each.open_id}

    def shown(key: str, name: str, after: str) -> str:
        mention = by_key.get(key) or by_id.get(key)
        who = mention.open_id if mention else key
        content.named.add(who)
        if bot_open_id is not None and who == bot_open_id:
            return ""
        if key.removeprefix("@_") == EVERYBODY:
            return f"@{EVERYBODY}{after}"
        name = (mention.name if mention else "") or name.strip().removeprefix("@")
        return f"@{name or 'someone'}{after}"

    def of_tag(found: re.Match[str]) -> str:
        return shown(found[1], found[2], found[3])

    def of_key(found: re.Match[str]) -> str:
        known = found[1] in by_key or found[1].removeprefix("@_") == EVERYBODY
        return shown(found[1], "", found[2]) if known else found[0]

    replaced: list[tuple[re.Pattern[str], Callable[[re.Match[str]], str]]] = [
        (AT_TAG, of_tag),
        (PLACEHOLDER, of_key),
    ]
    text = content.text
    for pattern, by in replaced:
        text = pattern.sub(by, text)
    return text
