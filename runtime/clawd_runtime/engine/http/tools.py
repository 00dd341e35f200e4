"""The fields of requests about tools.

Source: https://platform.openai.com/docs/guides/function-calling
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from clawd_runtime.engine.http.fields import Strict
from clawd_runtime.engine.tools.values import Tool

MOST_TOOLS = 128
LONGEST_NAME = 64
DEEPEST_ARGUMENTS = 64

FunctionName = Annotated[str, Field(pattern=f"^[a-zA-Z0-9_.-]{{1,{LONGEST_NAME}}}$")]


def _functions_only(kind: str) -> str:
    if kind != "function":
        raise PydanticCustomError("unsupported", "only tools of the type function are supported")
    return kind


FunctionType = Annotated[str, AfterValidator(_functions_only), WithJsonSchema({"const": "function"})]


class Function(Strict):
    """A function that the model may call. `strict` is not needed: see the documentation of tools."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None

    def tool(self) -> Tool:
        """Return the tool."""
        return Tool(self.name, self.description or "", self.parameters)


class FunctionTool(Strict):
    """A tool."""

    type: FunctionType
    function: Function


class FunctionOfChoice(Strict):
    """The name of the function to call."""

    name: FunctionName


class NamedTool(Strict):
    """The tool that must be called."""

    type: FunctionType
    function: FunctionOfChoice


ToolChoice = Literal["none", "auto", "required"] | NamedTool


def as_tool_choice(value: Any) -> Any:
    """Raise an error that names the possible values unless `value` may be one."""
    if value is None or isinstance(value, dict) or value in ("none", "auto", "required"):
        return NamedTool.model_validate(value) if isinstance(value, dict) else value
    raise PydanticCustomError(
        "tool_choice", "must be none, auto, required, or an object that names a function"
    )


def _json_object(text: str) -> str:
    """Raise an error unless `text` is a JSON object; a model may have written it."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or _depth(value) > DEEPEST_ARGUMENTS:
        raise PydanticCustomError("arguments", "must be a JSON object as a string")
    return text


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level and depth <= DEEPEST_ARGUMENTS:
        depth += 1
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
    return depth


class CalledFunction(Strict):
    """A function that was called, and its arguments as JSON."""

    name: FunctionName
    arguments: Annotated[str, AfterValidator(_json_object)]


class CallOfTool(Strict):
    """An earlier call."""

    id: Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]
    type: FunctionType = "function"
    function: CalledFunction
