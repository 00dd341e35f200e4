"""Chat requests of the OpenAI protocol, parsed strictly: unknown fields are refused by name.

Source: https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
    model_validator,
)
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
from clawd_runtime.engine.http.tools import (
    LONGEST_NAME,
    MOST_TOOLS,
    CallOfTool,
    FunctionTool,
    NamedTool,
    ToolChoice,
    as_tool_choice,
)
from clawd_runtime.engine.prompt.template import PromptMessage, PromptRole
from clawd_runtime.engine.tools.values import Tool, ToolCall
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

    type: Annotated[str, AfterValidator(_text_only), WithJsonSchema({"const": "text"})]
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
    tool_calls: Annotated[list[CallOfTool] | None, Field(max_length=MOST_TOOLS)] = None
    function_call: Unsupported = None

    @model_validator(mode="before")
    @classmethod
    def _may_have_no_content(cls, message: Any) -> Any:
        """Allow an answer without text if it calls tools."""
        if isinstance(message, dict) and message.get("tool_calls") and message.get("content") is None:
            return message | {"content": ""}
        return message


class ToolMessage(Strict):
    """The result of a call, which is text from elsewhere."""

    role: Literal["tool"]
    content: RequestContent
    tool_call_id: Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]
    name: str | None = None


RequestMessage = Annotated[
    SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")
]


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
    modalities: Annotated[list[str] | None, WithJsonSchema({"enum": [None, ["text"]]})] = None
    tools: Annotated[list[FunctionTool] | None, Field(max_length=MOST_TOOLS)] = None
    tool_choice: Annotated[ToolChoice | None, BeforeValidator(as_tool_choice)] = None
    parallel_tool_calls: bool | None = None
    function_call: Annotated[Any, WithJsonSchema({"enum": [None, "none"]})] = None
    service_tier: Annotated[str | None, WithJsonSchema({"enum": [None, "auto", "default"]})] = None
    # Without effect on the answer: they describe the client. Users take turns, see the batcher.
    safety_identifier: str | None = None
    metadata: dict[str, str] | None = None
    prompt_cache_key: str | None = None
    # Accepted only without a value: this engine supports none of them.
    audio: Unsupported = None
    functions: Unsupported = None
    prediction: Unsupported = None
    prompt_cache_retention: Unsupported = None
    store: Unsupported = None
    verbosity: Unsupported = None
    web_search_options: Unsupported = None

    @model_validator(mode="after")
    def _supported(self) -> ChatRequest:
        """Raise an error for values that the protocol defines and this engine does not support."""
        refused = {
            "modalities": self.modalities not in (None, ["text"]),
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
        self._check_tools()
        return self

    def _check_tools(self) -> None:
        names = [tool.function.name for tool in self.tools or ()]
        if len(set(names)) < len(names):
            _refuse("tools", "two functions have the same name")
        choice = self.tool_choice
        if choice not in (None, "none") and not names:
            _refuse("tool_choice", "only allowed with tools")
        if isinstance(choice, NamedTool) and choice.function.name not in names:
            _refuse("tool_choice", f"{choice.function.name!r} is not one of the tools")
        if self.callable_tools():
            if self.grammar is not None:
                _refuse("grammar", "not allowed together with tools")
            if self.response_format not in (None, ResponseFormat(type="text")):
                _refuse("response_format", "not allowed together with tools that may be called")
            if self.logprobs:
                _refuse("logprobs", "not supported together with tools")
        called: dict[str, str] = {}
        for index, message in enumerate(self.messages):
            if isinstance(message, AssistantMessage):
                called |= {call.id: call.function.name for call in message.tool_calls or ()}
            if isinstance(message, ToolMessage) and message.tool_call_id not in called:
                _refuse(f"messages[{index}].tool_call_id", "no earlier message has this call")

    def callable_tools(self) -> list[Tool]:
        """Return the tools that the answer may call."""
        if self.tool_choice == "none":
            return []
        return [tool.function.tool() for tool in self.tools or ()]

    def forced_tools(self) -> list[Tool]:
        """Return the tools of which the answer must call one."""
        if isinstance(self.tool_choice, NamedTool):
            return [tool for tool in self.callable_tools() if tool.name == self.tool_choice.function.name]
        return self.callable_tools() if self.tool_choice == "required" else []

    def conversation(self) -> list[PromptMessage]:
        """Return the messages, each with its reasoning separated from its text."""
        names = {
            call.id: call.function.name
            for message in self.messages
            if isinstance(message, AssistantMessage)
            for call in message.tool_calls or ()
        }
        return [_message(message, names) for message in self.messages]

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


def _message(
    message: SystemMessage | UserMessage | AssistantMessage | ToolMessage, names: Mapping[str, str]
) -> PromptMessage:
    content = message.content
    text = content if isinstance(content, str) else "".join(part.text for part in content)
    if isinstance(message, ToolMessage):
        call = message.tool_call_id
        return PromptMessage("tool", text, call_id=call, tool_name=names[call])
    if not isinstance(message, AssistantMessage):
        role: PromptRole = "user" if message.role == "user" else "system"
        return PromptMessage(role, text)
    reasoning, answer = separate(text)
    calls = tuple(
        ToolCall(call.id, call.function.name, call.function.arguments) for call in message.tool_calls or ()
    )
    reasoned = message.reasoning_content or message.reasoning or reasoning
    return PromptMessage("assistant", answer, reasoned, calls)


def parse_chat_request(body: bytes) -> ChatRequest:
    """Return the request in the JSON `body`.

    Raises:
        RequestError: The body is not a chat request, or requires an unsupported feature (status 400).

    """
    return parse_request(body, ChatRequest, "a chat request")
