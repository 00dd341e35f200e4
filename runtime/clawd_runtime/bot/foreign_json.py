"""JSON from other programs, read into types that validate every value before it is used.

A model derives from `Foreign`: strict (no number from a string or from `true`), frozen, and tolerant of
unknown fields, since platforms add some. Fields have one of the types below, which bound lengths and ranges,
so that later code (SQL, addresses, arithmetic) never gets a value that it cannot handle.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from clawd_runtime.bot.text.unicode import whole_characters

LONGEST_TEXT = 200_000
LONGEST_NAME = 512
MOST_NAMED = 5


class ForeignJsonError(ValueError):
    """A value of another program is invalid. The message is safe to log: it quotes no value."""


class Foreign(BaseModel):
    """Base class of models of JSON from another program."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


def _whole(value: object) -> object:
    return whole_characters(value) if isinstance(value, str) else value


def _or_none(value: object) -> object:
    return None if value == "" else value


Int64 = Annotated[int, Field(ge=-(2**63), lt=2**63)]
"""An integer of 64 bits, as databases and platforms use."""
ForeignText = Annotated[str, BeforeValidator(_whole), Field(max_length=LONGEST_TEXT)]
"""Text of a person, in characters that can be stored."""
ForeignName = Annotated[str, BeforeValidator(_whole), Field(max_length=LONGEST_NAME)]
"""A display name."""
Identifier = Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,128}$")]
"""An id of a platform: visible ASCII, short enough for an index."""
OptionalIdentifier = Annotated[Identifier | None, BeforeValidator(_or_none)]
"""An id that may be missing; some platforms then send an empty string."""
LanguageTag = Annotated[
    Annotated[str, BeforeValidator(_whole), Field(max_length=35)] | None, BeforeValidator(_or_none)
]
"""An IETF language tag (RFC 5646, 4.4.1), or none."""

ForeignModel = TypeVar("ForeignModel", bound=BaseModel)


def read_foreign_json(data: bytes | str) -> Any:
    r"""Return the value of `data`; raise `ValueError`, and nothing else, if it is not JSON.

    Nesting deeper than Python can parse and numbers longer than it converts are refused, too. Bytes that are
    not UTF-8 become U+FFFD; surrogates (`\ud83d`) are kept, because the other half may follow later.
    """
    text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_json(data: bytes | str) -> Any:
    """Return the value of `data` like `read_foreign_json`, but raise `ForeignJsonError` if it is not JSON."""
    try:
        return read_foreign_json(data)
    except ValueError:
        raise ForeignJsonError("not JSON, or nested too deeply") from None


def read_as(model: type[ForeignModel], value: object) -> ForeignModel:
    """Return `value` as `model`; raise `ForeignJsonError`, naming the invalid fields."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False, include_context=False)
        wrong = dict.fromkeys(f"{_place(problem['loc'])} ({problem['type']})" for problem in problems)
    except RecursionError:
        raise ForeignJsonError("nested too deeply") from None
    named = ", ".join(list(wrong)[:MOST_NAMED])
    raise ForeignJsonError(
        f"{named} and {len(wrong) - MOST_NAMED} more" if len(wrong) > MOST_NAMED else named
    )


def _place(loc: tuple[int | str, ...]) -> str:
    return ascii(".".join(map(str, loc[:8])) or "the whole")[1:61].rstrip("'")
