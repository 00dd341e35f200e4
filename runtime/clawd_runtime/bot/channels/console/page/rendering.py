"""The HTML of the page, made from what the store has."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib import resources
from string import Template
from urllib.parse import urlencode

from clawd_runtime.bot.channels.console.page.texts import PageLanguage, PageTexts
from clawd_runtime.bot.ports import OpenQuestion, Overview
from clawd_runtime.bot.text.markdown.html import html_of

LONGEST_TITLE = 80
SHOWN_TURNS = 60
SHOWN_CHARACTERS = 60_000
TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types clawd-page"
)
HTML_OF_LANGUAGE: dict[PageLanguage, str] = {"en": "en", "zh": "zh-CN"}


@dataclass(frozen=True, slots=True)
class Asset:
    """A static file of the page; `version` changes with its content."""

    content: bytes
    media_type: str
    version: str


@dataclass(frozen=True, slots=True)
class ShownChat:
    """What the page shows of a user: the conversations, and one of them with its newest turns."""

    user: str
    overview: Overview
    thread: str
    turns: Sequence[tuple[str, str]]
    has_earlier: bool = False

    @property
    def open(self) -> tuple[OpenQuestion, ...]:
        """The open questions of the shown conversation."""
        return tuple(question for question in self.overview.open if question.thread == self.thread)


@cache
def asset(name: str) -> Asset | None:
    """Return a static file of the page; None if there is none of this name."""
    if name not in ("page.css", "page.js", "icon.svg"):
        return None
    content = _read(name)
    return Asset(content, TYPES[name.rpartition(".")[2]], hashlib.sha256(content).hexdigest()[:16])


def chat_page(chat: ShownChat, texts: PageTexts, language: PageLanguage) -> str:
    """Return the page of a user who is logged in."""
    title = _title_of(chat, texts)
    turns = "".join(_turn(role, text, texts) for role, text in chat.turns)
    waiting = "".join(_turn("user", question.text, texts) for question in chat.open)
    return _template("chat.html").substitute(
        _common(texts, language),
        title=escape(title),
        is_new="" if turns or waiting else "hidden",
        conversations="".join(_entries(chat, texts)),
        user=escape(chat.user),
        conversation=escape(chat.thread),
        open=escape(json.dumps([_open(question) for question in chat.open], ensure_ascii=False)),
        earlier=_earlier(chat, texts) if chat.has_earlier else "",
        turns=turns + waiting or _welcome(texts),
    )


def logged_out_page(texts: PageTexts, language: PageLanguage) -> str:
    """Return the page of a user who is not logged in."""
    return _template("logged_out.html").substitute(_common(texts, language))


def newest(turns: Sequence[tuple[str, str]]) -> Sequence[tuple[str, str]]:
    """Return the newest turns, which are shown first: to render hundreds takes seconds."""
    characters, first = 0, len(turns)
    for role_and_text in reversed(turns[-SHOWN_TURNS:]):
        characters += len(role_and_text[1])
        if characters > SHOWN_CHARACTERS and first < len(turns):
            break
        first -= 1
    return turns[first:]


def title_of(given: str, beginning: str, texts: PageTexts) -> str:
    """Return the title of a conversation: the given one, else how it begins."""
    title = " ".join((given or beginning).split())
    if len(title) > LONGEST_TITLE:
        title = f"{title[:LONGEST_TITLE].rstrip()}…"
    return title or texts.new


def _title_of(chat: ShownChat, texts: PageTexts) -> str:
    for found in chat.overview.conversations:
        if found.thread == chat.thread:
            return title_of(found.title, found.beginning, texts)
    return title_of("", chat.open[0].text if chat.open else "", texts)


def _entries(chat: ShownChat, texts: PageTexts) -> list[str]:
    """Return the entries of the list; conversations whose first answer is still being made come first."""
    known = {found.thread for found in chat.overview.conversations}
    new = {question.thread: question.text for question in reversed(chat.overview.open)}
    entries = [(thread, title_of("", text, texts)) for thread, text in new.items() if thread not in known]
    entries += (
        (found.thread, title_of(found.title, found.beginning, texts)) for found in chat.overview.conversations
    )
    return [_entry(thread, title, is_shown=thread == chat.thread) for thread, title in entries]


def _entry(thread: str, title: str, *, is_shown: bool) -> str:
    current = ' aria-current="page"' if is_shown else ""
    return f'<li><a href="{escape(_address(thread))}"{current}>{escape(title)}</a></li>'


def _turn(role: str, text: str, texts: PageTexts) -> str:
    if role == "user":
        return (
            f'<article class="turn user"><h2 class="unseen">{escape(texts.you)}</h2>'
            f'<div class="text">{escape(text)}</div></article>'
        )
    return (
        f'<article class="turn bot"><h2 class="unseen">{escape(texts.assistant)}</h2>'
        f'<div class="answer">{"".join(html_of(text))}</div></article>'
    )


def _welcome(texts: PageTexts) -> str:
    return (
        f'<div class="welcome" id="welcome"><p class="greeting">{escape(texts.greeting)}</p>'
        f"<p>{escape(texts.introduction)}</p></div>"
    )


def _earlier(chat: ShownChat, texts: PageTexts) -> str:
    address = _address(chat.thread, all="1")
    return f'<p class="earlier"><a href="{escape(address)}">{escape(texts.earlier)}</a></p>'


def _address(thread: str, **further: str) -> str:
    return f"/console/?{urlencode({'c': thread, **further})}"


def _open(question: OpenQuestion) -> dict[str, str]:
    """Return an open question with the id that its client gave it, under which it is asked again."""
    _, id = json.loads(question.event_id)
    return {"id": id, "text": question.text}


def _common(texts: PageTexts, language: PageLanguage) -> dict[str, str]:
    escaped = {f"t_{name}": escape(text) for name, text in texts.as_dict().items()}
    return escaped | {
        "language": HTML_OF_LANGUAGE[language],
        "texts": escape(json.dumps(texts.as_dict(), ensure_ascii=False)),
        "css": _asset_address("page.css"),
        "js": _asset_address("page.js"),
        "icon": _asset_address("icon.svg"),
    }


def _asset_address(name: str) -> str:
    found = asset(name)
    assert found is not None
    return f"/console/assets/{name}?v={found.version}"


@cache
def _template(name: str) -> Template:
    return Template(_read(name).decode())


def _read(name: str) -> bytes:
    return resources.files(__package__).joinpath("assets", name).read_bytes()
