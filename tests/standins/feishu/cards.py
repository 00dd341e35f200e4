"""Content of cards, as the open platform checks it: JSON 2.0 with Markdown elements.

After the pages "Card JSON 2.0 structure" and "Rich text (Markdown)": unknown fields are errors, a card has at
most 200 elements, an element at most four tables and a card five, blocks of HTML are not supported, images
need a key, links http or https. The codes are as other people observed them. Markdown is read by
markdown-it-py.
"""

from __future__ import annotations

from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

from tests.standins.feishu.errors import ApiError

MOST_ELEMENTS = 200
MOST_TABLES_IN_ELEMENT = 4
MOST_TABLES = 5
TAGS = ("br", "hr", "person", "local_datetime", "at", "a", "text_tag", "raw", "link", "font", "number_tag")
CONFIG = frozenset(("update_multi", "summary", "width_mode", "enable_forward", "locales", "style"))
STREAMING = frozenset(("streaming_mode", "streaming_config"))
_MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def check_card(card: dict[str, Any]) -> None:
    """Raise `ApiError` if the platform would not create this card."""
    _only(card, {"schema", "config", "card_link", "header", "body"})
    if card.get("schema") != "2.0":
        raise _failed(200621, "stand-in: only cards of schema 2.0 are modelled")
    config = card.get("config", {})
    _only(config, CONFIG | STREAMING)
    if config.get("update_multi", True) is not True:
        raise _failed(200830, "update_multi must be true")
    _only(config.get("summary", {}), {"content", "i18n_content"})
    body = card.get("body")
    elements = body.get("elements") if isinstance(body, dict) else None
    if not isinstance(elements, list) or not elements or len(elements) > MOST_ELEMENTS:
        raise _failed(200621, "body has no elements, or too many")
    tables = [_tables_in(element) for element in elements]
    if sum(tables) > MOST_TABLES or max(tables) > MOST_TABLES_IN_ELEMENT:
        raise _failed(11310, "card table number over limit", "table")


def _tables_in(element: Any) -> int:
    if not isinstance(element, dict) or element.get("tag") != "markdown":
        raise _failed(200621, "stand-in: only elements with the tag markdown are modelled")
    _only(element, {"tag", "content", "element_id", "margin", "text_align", "text_size"})
    content = element.get("content")
    if not isinstance(content, str) or not content:
        raise _failed(200621, "markdown without content")
    return sum(_check(token) for token in _MARKDOWN.parse(content))


def _check(token: Token) -> bool:
    """Return whether a table begins here."""
    if token.type == "html_block":
        raise _failed(11311, "stand-in: a block of HTML is not shown", "markdown")
    if token.type == "code_block":
        raise _failed(11311, "stand-in: indented code, which is no mistake, but surely not meant", "markdown")
    for inner in token.children or ():
        _check_inline(inner)
    return token.type == "table_open"


def _check_inline(token: Token) -> None:
    if token.type == "html_inline":
        name = (
            token.content.strip("</>").split()[0].rstrip("/").lower() if token.content.strip("</> ") else ""
        )
        if name not in TAGS:
            raise _failed(11311, f"stand-in: {token.content} is not shown", "markdown")
    if token.type == "image" and not str(token.attrGet("src")).startswith("img_"):
        raise _failed(11246, "image key is invalid", "img")
    if token.type == "link_open" and not str(token.attrGet("href")).startswith(("http://", "https://")):
        raise _failed(11311, f"stand-in: {token.attrGet('href')} cannot be clicked", "link")


def _only(given: Any, known: set[str] | frozenset[str]) -> None:
    if not isinstance(given, dict) or given.keys() - known:
        raise _failed(200621, "parse card json err: unknown property")


def _failed(code: int, message: str, value: str = "") -> ApiError:
    tail = f" ErrorValue: {value};" if value else ""
    return ApiError(230099, f"Failed to create card content, ext=ErrCode: {code}; ErrMsg: {message};{tail} ")
