"""Strict parsing of request bodies; a mistake is reported in OpenAI's form, with the field it is in."""

from __future__ import annotations

import difflib
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, from_json

from clawd_runtime.errors import RequestError

MOST_MISTAKES = 20_000  # of one request; more are only counted, since describing them takes much memory

Request = TypeVar("Request", bound=BaseModel)


def parse_request(body: bytes, kind: type[Request], name: str) -> Request:
    """Return the request of this kind in the JSON `body`; `name` is what messages call it.

    Raises:
        RequestError: The body is not such a request, or requires an unsupported feature (status 400).

    """
    try:
        request = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise RequestError(f"cannot parse the body as JSON: {error}") from None
    if not isinstance(request, dict):
        raise RequestError("the body must be a JSON object")
    _refuse_unknown(request, kind, name)
    try:
        return kind.model_validate(request)
    except ValidationError as error:
        if error.error_count() > MOST_MISTAKES:
            raise RequestError(f"invalid request: {error.error_count()} mistakes") from None
        raise _mistake(error.errors(include_url=False, include_input=False)[0]) from None


def unsupported(place: str, why: str) -> RequestError:
    """Return the error for a field whose value this engine does not support."""
    return RequestError(f"{place}: {why}", code="unsupported_parameter", param=place)


def _refuse_unknown(request: dict[str, Any], kind: type[BaseModel], name: str) -> None:
    unknown = [field for field in request if field not in kind.model_fields]
    if not unknown:
        return
    shown = ", ".join(field[:80] for field in unknown[:5]) + (" …" if len(unknown) > 5 else "")
    like = difflib.get_close_matches(unknown[0][:80], kind.model_fields, n=1)
    hint = f" (did you mean {like[0]}?)" if like else ""
    raise RequestError(
        f"{shown}: unknown field of {name}{hint}",
        code="unknown_parameter",
        param=unknown[0][:80],
    )


def _mistake(mistake: ErrorDetails) -> RequestError:
    """Return the mistake in OpenAI's form: `param` is the field, such as `messages[0].content`."""
    kind, context = mistake["type"], mistake.get("ctx", {})
    place = _place(mistake["loc"])
    if kind == "unsupported_value":
        return unsupported(context["name"], "this value is not supported by this engine")
    if kind == "unsupported":
        return unsupported(place, mistake["msg"])
    if kind == "twice":
        name, other = context["name"], context["other"]
        return RequestError(f"{name}: conflicts with {other}, which has the same meaning", param=name)
    if kind == "field":
        return RequestError(f"{context['name']}: {context['why']}", param=context["name"])
    if kind == "stream_options":
        return RequestError("stream_options: only allowed with stream", param="stream_options")
    if kind == "extra_forbidden":
        return RequestError(f"{place}: unknown field", code="unknown_parameter", param=place)
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return RequestError(
            f"{place}.role: must be system, developer, user, assistant or tool", param=f"{place}.role"
        )
    if mistake["loc"][-1:] == ("[key]",):
        return RequestError(f"{place}: the key must be the number of a token", param=place)
    message = mistake["msg"]
    return RequestError(f"{place}: {message[:1].lower()}{message[1:]}", param=place)


def _place(location: tuple[int | str, ...]) -> str:
    """Return the field of a mistake, without the names of union members that pydantic adds to it."""
    place = ""
    for index, step in enumerate(location):
        before = location[index - 1] if index else None
        if step == "[key]" and index == len(location) - 1:
            break  # pydantic's name for the key itself, which is already included
        if isinstance(step, int):
            place += f"[{step}]"
        elif not (before == "content" or (location[0] == "messages" and index == 2)):
            place += f".{step[:80]}" if place else step[:80]
    return place
