"""Chat requests of the OpenAI protocol, parsed strictly: unknown fields are refused by name.

Source: https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from clawd_runtime.engine.grammar.gbnf import JSON_OBJECT
from clawd_runtime.engine.grammar.schema import schema_grammar
from clawd_runtime.engine.http.fields import (
    MOST_TOP_LOGPROBS,
    GenerationFields,
    Strict,
    TokenLimit,
    Unsupported,
    refuse_twice,
)
from clawd_runtime.engine.http.parsing import parse_request
from clawd_runtime.engine.prompt.template import PromptMessage, PromptRole
from clawd_runtime.reasoning.splitter import separate

MOST_MESSAGES = 10_000
MOST_PARTS = 10_000

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]


def _text_only(kind: str) -> str:
    if kind != "text":
        raise PydanticCustomError(
            "unsupported",
            "parts of type {kind} are not supported: the engine reads text only",
            {"kind": repr(kind[:40])},
        )
    return kind


class TextPart(Strict):
    """A part of a message's content. The engine reads text only."""

    type: Annotated[str, AfterValidator(_text_only)]
    text: str


def _content_form(content: Any) -> str | None:
    if isinstance(content, str):
        return "text"
    return "parts" if isinstance(content, list) else None


Parts = Annotated[list[TextPart], Field(min_length=1, max_length=MOST_PARTS)]
RequestContent = Annotated[
    Annotated[str, Tag("text")] | Annotated[Parts, Tag("parts")],
    Discriminator(
        _content_form,
        custom_error_type="content",
        custom_error_message="must be a string or a list of text parts",
    ),
]


class SystemMessage(Strict):
    """A message of the bot's operator. `developer` is the newer name of `system`."""

    role: Literal["system", "developer"]
    content: RequestContent


class UserMessage(Strict):
    """A message of a person."""

    role: Literal["user"]
    content: RequestContent


class AssistantMessage(Strict):
    """An earlier message of the model with its reasoning, as this engine or another one wrote it."""

    role: Literal["assistant"]
    content: RequestContent
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: Unsupported = None
    annotations: Unsupported = None
    audio: Unsupported = None
    tool_calls: Unsupported = None
    function_call: Unsupported = None


RequestMessage = Annotated[SystemMessage | UserMessage | AssistantMessage, Field(discriminator="role")]


class JsonSchema(Strict):
    """A named schema. Answers always conform to it, with `strict` or without."""

    name: Annotated[str, Field(pattern="^[a-zA-Z0-9_-]{1,64}$")]
    description: str | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = None


class ResponseFormat(Strict):
    """The format of the answer."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _complete(self) -> ResponseFormat:
        if (self.type == "json_schema") != (self.json_schema is not None):
            name = "response_format.json_schema"
            why = "required for the type json_schema, and only allowed there"
            raise PydanticCustomError("field", "", {"name": name, "why": why})
        return self

    def grammar(self) -> str | None:
        """Return the grammar of this format, or `None` for any text.

        Raises:
            RequestError: The schema is not supported.

        """
        if self.type == "text":
            return None
        schema = self.json_schema.schema_ if self.json_schema is not None else None
        if schema is None:
            return JSON_OBJECT
        return schema_grammar(schema, "response_format.json_schema.schema")


class TemplateOptions(Strict):
    """Variables of the chat template, as vLLM and llama.cpp accept them."""

    enable_thinking: bool | None = None


class ChatRequest(GenerationFields):
    """A chat request. A field that is absent or null has its default; an unknown one is refused.

    Not in OpenAI's API, but known from other engines: `chat_template_kwargs`.
    """

    messages: Annotated[list[RequestMessage], Field(min_length=1, max_length=MOST_MESSAGES)]
    max_completion_tokens: TokenLimit | None = None
    reasoning_effort: Effort | None = None
    chat_template_kwargs: TemplateOptions | None = None
    response_format: ResponseFormat | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MOST_TOP_LOGPROBS)] | None = None
    modalities: list[str] | None = None
    tool_choice: Any = None
    function_call: Any = None
    service_tier: str | None = None
    # Without effect on the answer: they describe the client to the provider.
    safety_identifier: str | None = None
    metadata: dict[str, str] | None = None
    prompt_cache_key: str | None = None
    # Accepted only without a value: this engine supports none of them.
    audio: Unsupported = None
    functions: Unsupported = None
    parallel_tool_calls: Unsupported = None
    prediction: Unsupported = None
    prompt_cache_retention: Unsupported = None
    store: Unsupported = None
    tools: Unsupported = None
    verbosity: Unsupported = None
    web_search_options: Unsupported = None

    @model_validator(mode="after")
    def _supported(self) -> ChatRequest:
        """Raise an error for values that the protocol defines and this engine does not support."""
        refused = {
            "modalities": self.modalities not in (None, ["text"]),
            "tool_choice": self.tool_choice not in (None, "none"),
            "function_call": self.function_call not in (None, "none"),
            "service_tier": self.service_tier not in (None, "auto", "default"),
        }
        for name, unsupported in refused.items():
            if unsupported:
                raise PydanticCustomError("unsupported_value", "{name}", {"name": name})
        refuse_twice(self, "max_completion_tokens", "max_tokens")
        if self.top_logprobs and not self.logprobs:
            _refuse("top_logprobs", "only allowed with logprobs")
        if self.grammar is not None and self.response_format not in (None, ResponseFormat(type="text")):
            _refuse("grammar", "not allowed together with response_format")
        return self

    def conversation(self) -> list[PromptMessage]:
        """Return the messages, each with its reasoning separated from its text."""
        return [_message(message) for message in self.messages]

    def limit(self) -> int | None:
        """Return the maximum number of tokens of the answer; `None` for as many as fit."""
        return self.max_completion_tokens or self.max_tokens

    def reported_logprobs(self) -> int | None:
        """Return of how many tokens in each place the probability is wanted; `None` of none."""
        return (self.top_logprobs or 0) if self.logprobs else None

    def answer_grammar(self) -> tuple[str, str] | None:
        """Return the grammar of the answer and the field that asks for it; `None` for any text.

        Raises:
            RequestError: The schema that the answer should conform to is not supported.

        """
        if self.grammar is not None:
            return self.grammar, "grammar"
        grammar = self.response_format.grammar() if self.response_format is not None else None
        return None if grammar is None else (grammar, "response_format")


def _refuse(name: str, why: str) -> None:
    raise PydanticCustomError("field", "", {"name": name, "why": why})


def _message(message: SystemMessage | UserMessage | AssistantMessage) -> PromptMessage:
    content = message.content
    text = content if isinstance(content, str) else "".join(part.text for part in content)
    if not isinstance(message, AssistantMessage):
        role: PromptRole = "user" if message.role == "user" else "system"
        return PromptMessage(role, text)
    reasoning, answer = separate(text)
    return PromptMessage("assistant", answer, message.reasoning_content or message.reasoning or reasoning)


def parse_chat_request(body: bytes) -> ChatRequest:
    """Return the request in the JSON `body`.

    Raises:
        RequestError: The body is not a chat request, or requires an unsupported feature (status 400).

    """
    return parse_request(body, ChatRequest, "a chat request")
