"""JSON from other programs, read into types that check every value before it is used.

A model derives from `Foreign`: strict (no number from a string, no number from `true`), frozen, and tolerant
of fields that it does not name, since platforms add some. Fields take one of the types below, which bound
lengths and ranges: what follows (SQL, addresses, arithmetic) then never meets a value that it cannot take.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from clawd_runtime.bot.characters import whole_characters

LONGEST_TEXT = 200_000
LONGEST_NAME = 512
MOST_NAMED = 5


class Unreadable(ValueError):
    """A value of another program that cannot be used. The text is for the log: it quotes no value."""


class Foreign(BaseModel):
    """A part of what another program sends."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


def _whole(value: object) -> object:
    return whole_characters(value) if isinstance(value, str) else value


def _or_none(value: object) -> object:
    return None if value == "" else value


Int64 = Annotated[int, Field(ge=-(2**63), lt=2**63)]
"""A number that a database's and a platform's 64 bits hold."""
Text = Annotated[str, BeforeValidator(_whole), Field(max_length=LONGEST_TEXT)]
"""What a person wrote, in characters that can be stored."""
Name = Annotated[str, BeforeValidator(_whole), Field(max_length=LONGEST_NAME)]
"""What something is called."""
Identifier = Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,128}$")]
"""What a platform calls something: visible ASCII, short enough for an index."""
OptionalIdentifier = Annotated[Identifier | None, BeforeValidator(_or_none)]
"""An identifier that may be missing; some platforms then send an empty string."""
LanguageTag = Annotated[
    Annotated[str, BeforeValidator(_whole), Field(max_length=35)] | None, BeforeValidator(_or_none)
]
"""An IETF language tag (RFC 5646, 4.4.1), or none."""

Model = TypeVar("Model", bound=BaseModel)


def read_foreign_json(data: bytes | str) -> Any:
    r"""Return the value of `data`. Raise `ValueError`, and nothing else, for whatever is no JSON.

    Nesting beyond what Python can follow and numbers beyond what it converts are none. Bytes that are no
    UTF-8 become U+FFFD; halves of characters (`\ud83d`) are kept, because the other half may come later.
    """
    text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_json(data: bytes | str) -> Any:
    """As `read_foreign_json`, for what is then read into types: raise `Unreadable`."""
    try:
        return read_foreign_json(data)
    except ValueError:
        raise Unreadable("this is not JSON, or nested too deeply") from None


def read_as(model: type[Model], value: object) -> Model:
    """Return `value` as `model`. Raise `Unreadable` naming the fields that are wrong."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False, include_context=False)
        wrong = dict.fromkeys(f"{_place(problem['loc'])} ({problem['type']})" for problem in problems)
    except RecursionError:
        raise Unreadable("the value is nested too deeply") from None
    named = ", ".join(list(wrong)[:MOST_NAMED])
    raise Unreadable(f"{named} and {len(wrong) - MOST_NAMED} more" if len(wrong) > MOST_NAMED else named)


def _place(loc: tuple[int | str, ...]) -> str:
    return ascii(".".join(map(str, loc[:8])) or "the whole")[1:61].rstrip("'")
