"""The model's own chat template: from messages to the prompt it was trained on.

Templates are Jinja in the GGUF's metadata, written for Transformers' `apply_chat_template`
(https://huggingface.co/docs/transformers/chat_templating). They are foreign code, so they run in a sandbox.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NoReturn

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from clawd_runtime.errors import ModelError, RequestError

Role = Literal["system", "user", "assistant"]

# Written into a control token's text to make it ordinary text; shows nothing.
_WORD_JOINER = "\u2060"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


class _GenerationTag(Extension):
    """Lets `{% generation %}…{% endgeneration %}` pass: it only marks training data."""

    tags = {"generation"}  # noqa: RUF012 - declared so by the base class

    def parse(self, parser: Parser) -> Node | list[Node]:
        parser.stream.skip(1)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class ChatTemplate:
    """A compiled chat template.

    `control` is the texts of the model's control tokens (`<|im_end|>`): inside a message's content they are
    made ordinary text, so that nobody can write another role's turn.
    """

    def __init__(self, source: str, *, bos: str, eos: str, control: Iterable[str] = ()) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, loopcontrols]
        )
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = lambda form: datetime.now().astimezone().strftime(form)
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise ModelError(f"the model's chat template cannot be compiled: {error}") from error
        self._bos, self._eos = bos, eos
        texts = sorted({text for text in control if len(text) > 1}, key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, texts))) if texts else None

    def render(self, messages: Sequence[Message]) -> str:
        """The prompt, ending where the model's answer begins.

        A conversation without a system message gets an empty one: templates such as SmolLM2's would else put
        in a text of their own. Where the template knows no system role, its text heads the first message.

        Raises:
            RequestError: the template refuses these messages (roles out of turn, for example).
        """
        turns = [{"role": message.role, "content": self._plain(message.content)} for message in messages]
        if not turns or turns[0]["role"] != "system":
            turns.insert(0, {"role": "system", "content": ""})
        try:
            return self._render(turns)
        except (jinja2.TemplateError, TypeError, ValueError) as refusal:
            try:
                return self._render(_without_system(turns))
            except (jinja2.TemplateError, TypeError, ValueError):
                raise RequestError(
                    f"the model's chat template refuses these messages: {refusal}", param="messages"
                ) from refusal

    def _render(self, turns: list[dict[str, str]]) -> str:
        return self._template.render(
            messages=turns, bos_token=self._bos, eos_token=self._eos, add_generation_prompt=True
        )

    def _plain(self, content: str) -> str:
        if self._control is None:
            return content
        return self._control.sub(lambda found: found[0][0] + _WORD_JOINER + found[0][1:], content)


def _without_system(turns: list[dict[str, str]]) -> list[dict[str, str]]:
    system, rest = turns[0]["content"], turns[1:]
    if system and rest:
        return [{**rest[0], "content": f"{system}\n\n{rest[0]['content']}"}, *rest[1:]]
    return rest


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)
