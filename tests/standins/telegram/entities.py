"""Entities that a bot gives with a text (core.telegram.org/bots/api#messageentity).

The real server repairs or drops some wrong entities; here they are refused, so that no test passes with a
message that people would see otherwise. Such refusals begin with "stand-in". The other descriptions, and how
white space around the text is removed, follow the source of tdlib/td (`MessageEntity.cpp`).
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from tests.standins.telegram.wire import ApiError

MOST_ENTITIES = 100
STYLES = frozenset(("bold", "italic", "underline", "strikethrough", "spoiler"))
QUOTES = frozenset(("blockquote", "expandable_blockquote"))
OTHERS = frozenset(("code", "pre", "text_link"))
TRIMMED = " \n"


def trimmed(text: str, given: Any) -> tuple[str, list[dict[str, Any]]]:
    """Return the text without white space around it, and the entities; raise `ApiError` for a wrong one."""
    entities = _parsed(given)
    raw = text.encode("utf-16-le", "surrogatepass")
    for entity in entities:
        _check_bounds(entity, raw)
    _check_nesting(entities)
    if len(entities) > MOST_ENTITIES:
        raise _bad(f"stand-in: {len(entities)} entities; Telegram ignores those after {MOST_ENTITIES}")
    return _without_space(text, entities)


def _parsed(given: Any) -> list[dict[str, Any]]:
    if given is None:
        return []
    if not isinstance(given, list):
        raise _bad("can't parse entities JSON object")
    return [_entity(each) for each in given]


def _entity(given: Any) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise _bad("can't parse MessageEntity: expected an Object")
    kind = given.get("type")
    if kind not in STYLES | QUOTES | OTHERS:
        raise _bad("can't parse MessageEntity: Unsupported type specified")
    known = {"type", "offset", "length", *{"text_link": ("url",), "pre": ("language",)}.get(kind, ())}
    if unknown := given.keys() - known:
        raise _bad(f"stand-in: {kind} has no {sorted(unknown)}")
    for name in ("offset", "length"):
        if type(given.get(name)) is not int:
            raise _bad(f'can\'t parse MessageEntity: Field "{name}" must be of type Number')
    if kind == "text_link":
        _check_url(given.get("url"))
    return given


def _check_url(url: Any) -> None:
    if not isinstance(url, str):
        raise _bad("can't parse MessageEntity: Can't find field \"url\"")
    wrong = f"entity URL '{url}' is invalid"
    try:
        parsed = urlsplit(url)
        host, port = parsed.hostname or "", parsed.port
    except ValueError:
        raise _bad(f"{wrong}: Wrong HTTP URL") from None
    if parsed.scheme not in {"http", "https"}:
        raise _bad(f"{wrong}: Unsupported URL protocol")
    if "." not in host or port == 0 or any(each.isspace() for each in url):
        raise _bad(f"{wrong}: Wrong HTTP URL")


def _check_bounds(entity: dict[str, Any], raw: bytes) -> None:
    offset, length = entity["offset"], entity["length"]
    if offset < 0 or length < 0:
        raise _bad(f"receive an entity with incorrect {'offset' if offset < 0 else 'length'}")
    end = offset + length
    if 2 * offset > len(raw):
        raise _bad(f"entity begins after the end of the text at UTF-16 offset {offset}")
    if 2 * end > len(raw):
        raise _bad(
            f"entity beginning at UTF-16 offset {offset} ends after the end of the text at UTF-16 offset "
            f"{end}"
        )
    for position, what in ((offset, "begins"), (end, "ends")):
        if 0xDC <= (raw[2 * position + 1] if 2 * position < len(raw) else 0) <= 0xDF:
            raise _bad(f"entity {what} in a middle of a UTF-16 symbol at UTF-16 offset {position}")
    if not raw[2 * offset : 2 * end].decode("utf-16-le").strip():
        raise _bad(f"stand-in: the {entity['type']} at {offset} shows nothing; Telegram drops it")


def _check_nesting(entities: list[dict[str, Any]]) -> None:
    places = [(each["offset"], -each["length"]) for each in entities]
    if places != sorted(places):
        raise _bad("stand-in: entities are not in order")
    around: list[dict[str, Any]] = []
    for entity in entities:
        start, end = entity["offset"], entity["offset"] + entity["length"]
        around = [each for each in around if each["offset"] + each["length"] > start]
        for outer in around:
            if outer["offset"] + outer["length"] < end:
                raise _bad(f"stand-in: {outer['type']} and {entity['type']} at {start} overlap")
            if not _may_contain(outer["type"], entity["type"]):
                raise _bad(f"stand-in: {outer['type']} cannot contain {entity['type']} at {start}")
        around.append(entity)


def _may_contain(outer: str, inner: str) -> bool:
    if outer == inner or {outer, inner} <= QUOTES or outer in {"code", "pre"}:
        return False
    if inner in {"code", "pre"}:
        return outer in QUOTES
    return outer in STYLES | QUOTES or inner in STYLES


def _without_space(text: str, entities: list[dict[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    """Return the text as people see it: white space in front stays where an entity begins."""
    shown = text.rstrip(TRIMMED)
    most = min((each["offset"] for each in entities), default=len(shown))
    front = 0
    while front < min(most, len(shown)) and shown[front] in TRIMMED:
        front += 1
    units = len(shown.encode("utf-16-le", "surrogatepass")) // 2
    moved = []
    for each in entities:
        length = min(each["length"], units - each["offset"])
        if length > 0:
            moved.append(each | {"offset": each["offset"] - front, "length": length})
    return shown[front:], moved


def _bad(why: str) -> ApiError:
    return ApiError(400, f"Bad Request: {why}")
