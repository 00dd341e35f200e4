"""The model's own chat template, which renders messages to the prompt format of its training.

Templates are Jinja in the GGUF's metadata, written for Transformers' `apply_chat_template`
(https://huggingface.co/docs/transformers/chat_templating). They differ in what they support, and some drop
the rest silently. So a template is first tested with known words, and used only in a way that loses none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal

import jinja2
from jinja2 import meta, nodes

from clawd_runtime.engine.prompt.markers import CUT, Neutraliser, marks_of
from clawd_runtime.engine.prompt.sandbox import LONGEST_SOURCE, TemplateEnvironment, TooMuchWork
from clawd_runtime.engine.tools.values import Tool, ToolCall
from clawd_runtime.errors import ChatTemplateError, RequestError
from clawd_runtime.reasoning.marks import marks_in

PromptRole = Literal["system", "user", "assistant", "tool"]
Prompt = tuple[str, ...]
"""A rendered prompt. No special token is recognised across two of its pieces."""

Options = Mapping[str, str | bool]
"""Additional variables of a template (`reasoning_effort`)."""


@dataclass(frozen=True, slots=True)
class PromptMessage:
    """One turn of a conversation. `reasoning` is the assistant's reasoning before its answer.

    The assistant's turn may have `tool_calls`; a turn of a tool is the result of the call `call_id`.
    """

    role: PromptRole
    content: str
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    call_id: str = ""
    tool_name: str = ""


@dataclass(frozen=True, slots=True)
class _Layout:
    """The form in which messages are passed to a template so that it loses none.

    `parts`: the content is a list of parts. `fold_system`: the system text is put at the beginning of the
    first user message. `without_tools`: the variables for tools must be undefined, not none. `later_system`:
    the template supports system messages after the first one. `empty_system`: an empty system message keeps
    it from inserting a default one. `merge_turns`: consecutive messages of one role are merged. `tools`: how
    the template wants the arguments of calls, as values or as JSON; empty if it does not support tools.
    """

    parts: bool
    fold_system: bool
    without_tools: bool = False
    later_system: bool = False
    empty_system: bool = False
    merge_turns: bool = False
    tools: Literal["", "values", "json"] = ""


# Words that no template writes itself.
_SYSTEM, _USER, _ASSISTANT, _LATER, _LAST = (
    f"clawdprobe{role}word" for role in ("system", "user", "assistant", "later", "last")
)
# Texts that real templates cut or change: further lines, indentation, long text, markup, quotes.
_DETAILS = "\n".join(
    (
        *(
            "",
            "",
            "    indented,  wide\tand open ",
            "<b>bold</b> & 'single' \"double\" \\ {x} %s",
            "ÄÖ 你好 😀",
        ),
        *(" ".join(f"{line}.{word}" for word in range(100)) for line in range(20)),
        "the end",
    )
)
_MANY_TURNS = 24
_ARGUMENT, _RESULT = "clawdprobeargument", "clawdproberesult"
_TOOL = Tool(
    "clawdprobetool",
    "clawdprobedescription",
    {"type": "object", "properties": {_ARGUMENT: {"type": "string", "description": "clawdprobe"}}},
)
_CALL = ToolCall("clawdprobe1", _TOOL.name, f'{{"{_ARGUMENT}": "clawdprobevalue"}}')
_WITH_TOOLS = (
    PromptMessage("system", _SYSTEM),
    PromptMessage("user", _USER),
    PromptMessage("assistant", "", tool_calls=(_CALL,)),
    PromptMessage("tool", _RESULT, call_id=_CALL.id, tool_name=_TOOL.name),
    PromptMessage("user", _LAST),
)
_OF_A_LIST = ("'type': 'text'", '"type": "text"', '"type":"text"')
_TRIED = tuple(
    _Layout(parts, fold_system, without_tools)
    for fold_system, parts, without_tools in product((False, True), repeat=3)
)


class ChatTemplate:
    """A compiled chat template that is tested to lose no words.

    `control` is the texts of the model's control tokens (`<|im_end|>`), `added` those of the tokens added to
    its vocabulary, which may be marks, too. Inside a message these and all other turn marks of the template
    are ordinary text, so that no message can forge a turn of another role.
    """

    def __init__(
        self, source: str, *, bos: str, eos: str, control: Iterable[str] = (), added: Iterable[str] = ()
    ) -> None:
        """Compile and test the template.

        Raises:
            ChatTemplateError: The template cannot be compiled, or loses words in every layout.

        """
        if len(source) > LONGEST_SOURCE:
            raise ChatTemplateError(f"it is longer than {LONGEST_SOURCE} characters")
        self.source = source
        self._environment = TemplateEnvironment()
        self._bos, self._eos = bos, eos
        self._plain = Neutraliser((), ())
        try:
            tree = self._environment.parse(source)
            self._template = self._environment.from_string(source)
        except (RecursionError, SyntaxError) as error:
            raise ChatTemplateError("it is too deeply nested", compiles=False) from error
        except (jinja2.TemplateError, ValueError) as error:
            raise ChatTemplateError(_reason(error), compiles=False) from error
        self._variables = meta.find_undeclared_variables(tree)
        self.reasoning_marks = marks_in(source)
        self._layout = self._working_layout()
        self.trimmed_roles = self._trimmed_roles()
        """The roles whose texts lose the white space at their beginning and end."""
        self._openings: dict[tuple[tuple[str, str | bool], ...], str] = {}
        literals = _literals(tree)
        marks = marks_of(literals, self._around())
        written = {text for text in added if text.strip() and (text in marks or text in self.reasoning_marks)}
        self._plain = Neutraliser({*control, *written}, marks)

    def knows(self, variable: str) -> bool:
        """Return whether the template reads the variable `variable`."""
        return variable in self._variables

    @property
    def knows_tools(self) -> bool:
        """Whether the template writes tools, their calls and their results."""
        return bool(self._layout.tools)

    def render(
        self, messages: Sequence[PromptMessage], options: Options | None = None, tools: Sequence[Tool] = ()
    ) -> Prompt:
        """Return the prompt, ending where the model's answer begins.

        Tools, calls and results are only allowed if the template `knows_tools`.

        Raises:
            RequestError: The template refuses these messages (for example, roles out of order).

        """
        try:
            variables = self._arranged(messages, self._layout, tools)
            return tuple(self._render(variables, options or {}).split(CUT))
        except Exception as refusal:
            raise RequestError(
                f"messages: refused by the model's chat template: {_reason(refusal)}", param="messages"
            ) from refusal

    def opening(self, options: Options | None = None) -> str:
        """Return the end of a prompt after the last message, which may open the model's reasoning.

        Raises:
            RequestError: The template refuses these options.

        """
        key = tuple(sorted((options or {}).items()))
        if key not in self._openings:
            try:
                prompt = self._render(self._arranged([PromptMessage("user", _LAST)], self._layout), dict(key))
            except Exception as refusal:
                raise RequestError(
                    f"{dict(key)}: refused by the model's chat template: {_reason(refusal)}",
                    param="reasoning_effort",
                ) from refusal
            self._openings[key] = prompt.rpartition(_LAST)[2]
        return self._openings[key]

    # --- choosing the layout ------------------------------------------------------------------------

    def _working_layout(self) -> _Layout:
        losses = []
        for layout in _TRIED:
            lost = self._lost(layout)
            if not lost:
                return self._refined(layout)
            losses.append(lost)
        raise ChatTemplateError(
            losses[0],
            advice="use another conversion of the model, one with its maker's chat template",
        )

    def _lost(self, layout: _Layout) -> str:
        """Return what goes wrong with this layout; empty if nothing does."""
        whole = [
            PromptMessage("system", _SYSTEM),
            PromptMessage("user", _USER),
            PromptMessage("assistant", _ASSISTANT),
            PromptMessage("user", _LAST),
        ]
        for messages in (whole, [*whole[:1], whole[3]], whole[3:]):
            try:
                prompt = self._render(self._arranged(messages, layout), {})
            except TooMuchWork as error:
                raise ChatTemplateError(str(error)) from error
            except Exception as error:
                return _reason(error)
            lost = [message.role for message in messages if message.content not in prompt]
            if lost:
                return f"it loses the text of {', '.join(dict.fromkeys(lost))} messages"
            places = [prompt.rfind(message.content) for message in messages]
            turns = places[1:] if messages[0].role == "system" else places
            if turns != sorted(turns) or places[0] > places[-1]:
                return "it changes the order of messages"
        return self._damaged(layout)

    def _damaged(self, layout: _Layout) -> str:
        """Return what goes wrong with texts of several lines and with many turns; empty if nothing does."""
        detailed = [
            PromptMessage("system", _SYSTEM + _DETAILS),
            PromptMessage("user", _USER + _DETAILS),
            PromptMessage("assistant", _ASSISTANT + _DETAILS),
            PromptMessage("user", _LAST + _DETAILS),
        ]
        many = [
            PromptMessage("system", _SYSTEM),
            *(
                PromptMessage("assistant" if turn % 2 else "user", f"{_USER}{turn}.")
                for turn in range(_MANY_TURNS)
            ),
            PromptMessage("user", _LAST),
        ]
        try:
            prompt = self._render(self._arranged(detailed, layout), {})
            turns = self._render(self._arranged(many, layout), {})
        except Exception as error:
            return _reason(error)
        if layout.parts and any(mark in prompt for mark in _OF_A_LIST):
            return "it writes the list of a message's parts instead of their text"
        changed = [message.role for message in detailed if message.content not in prompt]
        if changed:
            return f"it cuts or changes the text of {', '.join(dict.fromkeys(changed))} messages"
        if not all(message.content in turns for message in many):
            return "it drops messages of a long conversation"
        return ""

    def _trimmed_roles(self) -> tuple[PromptRole, ...]:
        spaced = [
            PromptMessage("system", f" \n{_SYSTEM}\n "),
            PromptMessage("user", f" \n{_USER}\n "),
            PromptMessage("assistant", f" \n{_ASSISTANT}\n "),
            PromptMessage("user", _LAST),
        ]
        prompt = self._tried(spaced, self._layout)
        return tuple(message.role for message in spaced if message.content not in prompt)

    def _refined(self, layout: _Layout) -> _Layout:
        twice = [PromptMessage("user", _USER), PromptMessage("user", _LAST)]
        prompt = self._tried(twice, layout)
        if not all(message.content in prompt for message in twice):
            layout = replace(layout, merge_turns=True)
        later = replace(layout, later_system=True)
        with_later = [
            PromptMessage("system", _SYSTEM),
            PromptMessage("user", _USER),
            PromptMessage("assistant", _ASSISTANT),
            PromptMessage("system", _LATER),
            PromptMessage("user", _LAST),
        ]
        prompt = self._tried(with_later, later)
        kept = all(message.content in prompt for message in with_later)
        if kept and _mark_before(_LATER, prompt) == _mark_before(_SYSTEM, prompt):
            layout = later
        empty = replace(layout, empty_system=True)
        alone = [PromptMessage("user", _LAST)]
        shorter = self._tried(alone, empty)
        if _LAST in shorter and len(shorter) < len(self._tried(alone, layout)):
            layout = empty
        return self._with_tools(layout)

    def _with_tools(self, layout: _Layout) -> _Layout:
        """Return the layout with tools, if the template loses nothing of them."""
        if layout.without_tools or not self.knows("tools"):
            return layout
        for form in ("values", "json"):
            tried = replace(layout, tools=form)
            prompt = self._tried(_WITH_TOOLS, tried, (_TOOL,))
            words = [_TOOL.name, _TOOL.description, _ARGUMENT, _RESULT, _USER, _LAST]
            written = any(_CALL.arguments.replace(" ", space) in prompt for space in (" ", ""))
            if written and all(word in prompt for word in words):
                return tried
        return layout

    def _tried(self, messages: Sequence[PromptMessage], layout: _Layout, tools: Sequence[Tool] = ()) -> str:
        try:
            return self._render(self._arranged(messages, layout, tools), {})
        except Exception:
            return ""

    def _around(self) -> list[str]:
        """Return the texts that the template writes before each message and before the answer."""
        words = [_SYSTEM, _USER, _ASSISTANT, _LAST]
        roles: list[PromptRole] = ["system", "user", "assistant", "user"]
        messages = [PromptMessage(role, word) for role, word in zip(roles, words, strict=True)]
        prompt = self._render(self._arranged(messages, self._layout), {})
        places = sorted((prompt.rfind(word), len(word)) for word in words)
        starts = [0, *(place + length for place, length in places)]
        ends = [*(place for place, _ in places), len(prompt)]
        return [prompt[start:end] for start, end in zip(starts, ends, strict=True)]

    # --- rendering ------------------------------------------------------------------------------------

    def _arranged(
        self, messages: Sequence[PromptMessage], layout: _Layout, tools: Sequence[Tool] = ()
    ) -> dict[str, Any]:
        """Return the template's variables for these messages."""
        system, rest = _leading_system(messages)
        turns = list(rest) if layout.later_system else _folded(rest)
        if layout.fold_system:
            turns = _folded([PromptMessage("system", system), *turns] if system else turns)
        elif system or layout.empty_system:
            turns.insert(0, PromptMessage("system", system))
        if layout.merge_turns:
            turns = _merged(turns)
        described = [self._neutral(tool.as_json()) for tool in tools] or None
        named = {} if layout.without_tools else {"tools": described, "documents": None}
        return {"messages": [self._turn(turn, layout) for turn in turns], **named}

    def _turn(self, message: PromptMessage, layout: _Layout) -> dict[str, Any]:
        text = self._plain(message.content)
        content = [{"type": "text", "text": text}] if layout.parts else text
        turn: dict[str, Any] = {"role": message.role, "content": content}
        if message.reasoning:
            turn["reasoning_content"] = self._plain(message.reasoning)
        if message.tool_calls:
            turn["tool_calls"] = [self._call(call, layout) for call in message.tool_calls]
        if message.role == "tool":
            turn |= {"tool_call_id": message.call_id, "name": self._plain(message.tool_name)}
        return turn

    def _call(self, call: ToolCall, layout: _Layout) -> dict[str, Any]:
        arguments = self._neutral(json.loads(call.arguments))
        if layout.tools == "json":
            arguments = json.dumps(arguments, ensure_ascii=False)
        function = {"name": self._plain(call.name), "arguments": arguments}
        return {"id": call.id, "type": "function", "function": function}

    def _neutral(self, value: Any) -> Any:
        """Return a JSON value whose texts cannot forge marks."""
        if isinstance(value, str):
            return self._plain(value)
        if isinstance(value, list):
            return [self._neutral(each) for each in value]
        if isinstance(value, dict):
            return {self._plain(name): self._neutral(each) for name, each in value.items()}
        return value

    def _render(self, variables: dict[str, Any], options: Options) -> str:
        self._environment.budget.begin(
            sum(len(str(turn)) for turn in variables["messages"]) + len(str(variables.get("tools") or ""))
        )
        return self._template.render(
            **variables,
            bos_token=self._bos,
            eos_token=self._eos,
            add_generation_prompt=True,
            **options,
        )


def _mark_before(word: str, prompt: str) -> str:
    """Return the last characters before `word`, which mark the role of its message."""
    return prompt[: prompt.find(word)][-10:]


def _leading_system(messages: Sequence[PromptMessage]) -> tuple[str, Sequence[PromptMessage]]:
    """Return the text of the leading system messages, and the other messages."""
    count = next((index for index, each in enumerate(messages) if each.role != "system"), len(messages))
    return "\n\n".join(message.content for message in messages[:count]), messages[count:]


def _folded(messages: Sequence[PromptMessage]) -> list[PromptMessage]:
    """Return the messages with each system text moved to the next user message, or to the last one."""
    turns: list[PromptMessage] = []
    texts: list[str] = []
    for message in messages:
        if message.role == "system":
            texts.append(message.content)
        elif message.role == "user" and texts:
            turns.append(PromptMessage("user", "\n\n".join([*texts, message.content])))
            texts.clear()
        else:
            turns.append(message)
    if texts and turns and turns[-1].role == "user":
        texts.insert(0, turns.pop().content)
    if texts:
        turns.append(PromptMessage("user", "\n\n".join(texts)))
    return turns


def _merged(messages: Sequence[PromptMessage]) -> list[PromptMessage]:
    """Return the messages with consecutive ones of the same role merged."""
    turns: list[PromptMessage] = []
    for message in messages:
        if turns and turns[-1].role == message.role and not _is_of_tools(message, turns[-1]):
            before = turns[-1]
            turns[-1] = replace(
                message,
                content=f"{before.content}\n\n{message.content}",
                reasoning=before.reasoning or message.reasoning,
            )
        else:
            turns.append(message)
    return turns


def _is_of_tools(*messages: PromptMessage) -> bool:
    return any(message.role == "tool" or message.tool_calls for message in messages)


def _literals(tree: nodes.Template) -> list[str]:
    constants = [node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str)]
    return [*constants, *(node.data for node in tree.find_all(nodes.TemplateData))]


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "infinite recursion"
    if isinstance(error, jinja2.TemplateSyntaxError):
        return f"{error.message} in line {error.lineno}"
    return str(error) or type(error).__name__
