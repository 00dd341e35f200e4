"""The forms in which models write calls of tools, and a generic one for chat templates without tools."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from clawd_runtime.engine.grammar.gbnf import Rules, literal
from clawd_runtime.engine.grammar.schema import schema_rule
from clawd_runtime.engine.prompt.template import PromptMessage
from clawd_runtime.engine.tools.values import Tool

CALL, CALL_END = "<tool_call>", "</tool_call>"
CALL_LIST = "[TOOL_CALLS]"
PYTHON_TAG = "<|python_tag|>"
MARKS = (CALL, CALL_END, CALL_LIST, PYTHON_TAG)
RESPONSE, RESPONSE_END = "<tool_response>", "</tool_response>"

MOST_FORCED_CALLS = 8


@dataclass(frozen=True, slots=True)
class ToolForm:
    """How a model writes a call: a JSON object with the name and, under `key`, the arguments."""

    before: str
    after: str
    key: str = "arguments"


GENERIC = ToolForm(f"{CALL}\n", f"\n{CALL_END}")
_LIST = ToolForm(f"{CALL_LIST}[", "]")
_BARE = ToolForm("", "", "parameters")


def form_of(source: str) -> ToolForm:
    """Return the form that the chat template in `source` teaches."""
    if CALL in source:
        return GENERIC
    if CALL_LIST in source:
        return _LIST
    return _BARE if '"parameters"' in source else GENERIC


def call_grammar(form: ToolForm, tools: Sequence[Tool], *, most: int) -> str:
    """Return the grammar of one to `most` calls of these tools.

    Raises:
        RequestError: The schema of a tool's parameters is not supported.

    """
    rules = Rules("tools")
    calls = []
    for index, tool in enumerate(tools):
        schema: Any = tool.parameters or {"type": "object", "additionalProperties": False}
        value = schema_rule(schema, rules, f"tools[{index}].function.parameters")
        name = literal(json.dumps(tool.name))
        key = literal(f', "{form.key}": ')
        calls.append(rules.add(f'"{{\\"name\\": " {name} {key} {value} "}}"'))
    call = rules.add(" | ".join(calls))
    one = f"{literal(form.before)} {call} {literal(form.after)}"
    more = f' ("\\n" {one}){{0,{most - 1}}}' if most > 1 else ""
    return rules.text(one + more)


def as_plain_messages(messages: Iterable[PromptMessage], tools: Sequence[Tool]) -> list[PromptMessage]:
    """Return the conversation in the generic form, for a chat template that does not know tools.

    The tools stand at the end of the system message; calls and results are text of assistant and user.
    """
    plain: list[PromptMessage] = []
    for message in messages:
        if message.role == "tool":
            text = f"{RESPONSE}\n{message.content}\n{RESPONSE_END}"
            if plain and plain[-1].role == "user" and plain[-1].content.endswith(RESPONSE_END):
                text = f"{plain.pop().content}\n{text}"
            plain.append(PromptMessage("user", text))
        elif message.tool_calls:
            calls = [
                f'{CALL}\n{{"name": {json.dumps(call.name)}, "arguments": {call.arguments}}}\n{CALL_END}'
                for call in message.tool_calls
            ]
            content = "\n".join([*([message.content] if message.content else []), *calls])
            plain.append(replace(message, content=content, tool_calls=()))
        else:
            plain.append(message)
    return _with_instructions(plain, tools) if tools else plain


def _with_instructions(messages: list[PromptMessage], tools: Sequence[Tool]) -> list[PromptMessage]:
    described = "\n".join(json.dumps(tool.as_json(), ensure_ascii=False) for tool in tools)
    text = (
        "You can call these functions, each described by a JSON object on a line:\n"
        f"{described}\n\n"
        "To call one, write only this, with the function's name and its arguments as a JSON object:\n"
        f'{CALL}\n{{"name": "…", "arguments": {{…}}}}\n{CALL_END}\n'
        f"The result follows in {RESPONSE}. If no function is needed, answer without calling one."
    )
    if messages and messages[0].role == "system":
        first = messages[0]
        return [replace(first, content=f"{first.content}\n\n{text}".strip()), *messages[1:]]
    return [PromptMessage("system", text), *messages]
