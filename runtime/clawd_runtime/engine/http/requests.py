"""Chat requests of the OpenAI protocol, parsed strictly: unknown fields are refused by name.

Source: https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

import difflib
import secrets
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError, from_json

from clawd_runtime.engine.prompt.template import PromptMessage, PromptRole
from clawd_runtime.engine.values import SamplingParameters
from clawd_runtime.errors import RequestError
from clawd_runtime.reasoning.splitter import separate

MOST_STOP_STRINGS = 4
LONGEST_STOP_STRING = 200  # characters
MOST_MESSAGES = 10_000
MOST_PARTS = 10_000
MOST_BIASES = 1024
MOST_MISTAKES = 20_000  # of one request; more are only counted, since describing them takes much memory

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", protected_namespaces=())


def _unsupported(value: Any) -> None:
    """Raise an error if a field that this engine does not support has a value."""
    if value:
        raise PydanticCustomError("unsupported", "not supported by this engine")


def _text_only(kind: str) -> str:
    if kind != "text":
        raise PydanticCustomError(
            "unsupported",
            "parts of type {kind} are not supported: the engine reads text only",
            {"kind": repr(kind[:40])},
        )
    return kind


def _as_stops(value: Any) -> tuple[str, ...]:
    """Return the stop strings, or raise an error that names what is wrong with them."""
    if value is None:
        return ()
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise PydanticCustomError("stop", "must be a string or a list of strings")
    if len(stops) > MOST_STOP_STRINGS:
        raise PydanticCustomError(
            "stop",
            "{count} stop strings given, at most {most} allowed",
            {"most": MOST_STOP_STRINGS, "count": len(stops)},
        )
    if not all(stops):
        raise PydanticCustomError("stop", "a stop string must not be empty")
    if max(map(len, stops), default=0) > LONGEST_STOP_STRING:
        raise PydanticCustomError(
            "stop",
            "a stop string must not be longer than {most} characters",
            {"most": LONGEST_STOP_STRING},
        )
    return tuple(stops)


Unsupported = Annotated[Any, AfterValidator(_unsupported)]


class TextPart(_Strict):
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


class SystemMessage(_Strict):
    """A message of the bot's operator. `developer` is the newer name of `system`."""

    role: Literal["system", "developer"]
    content: RequestContent


class UserMessage(_Strict):
    """A message of a person."""

    role: Literal["user"]
    content: RequestContent


class AssistantMessage(_Strict):
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


class StreamOptions(_Strict):
    """Options for the end of a stream."""

    include_usage: bool | None = None
    include_obfuscation: Unsupported = None


class ResponseFormat(_Strict):
    """The format of the answer. Only text is supported."""

    type: str
    json_schema: Any = None


class TemplateOptions(_Strict):
    """Variables of the chat template, as vLLM and llama.cpp accept them."""

    enable_thinking: bool | None = None


Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Penalty = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]
TokenLimit = Annotated[int, Field(ge=1, le=2**31 - 1)]
Bias = Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]
TokenId = Annotated[str, Field(pattern="^[0-9]{1,9}$")]


class ChatRequest(_Strict):
    """A chat request. A field that is absent or null has its default; an unknown one is refused.

    Not in OpenAI's API, but known from other engines: `top_k` (only that many likeliest tokens are
    considered, 0 for all), `min_p`, `typical_p`, `repeat_penalty` (or `repetition_penalty`),
    `chat_template_kwargs`.
    """

    model: str
    messages: Annotated[list[RequestMessage], Field(min_length=1, max_length=MOST_MESSAGES)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: TokenLimit | None = None
    max_completion_tokens: TokenLimit | None = None
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    top_p: Annotated[Probability, Field(gt=0)] | None = None
    top_k: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    min_p: Probability | None = None
    typical_p: Annotated[Probability, Field(gt=0)] | None = None
    repeat_penalty: Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: Annotated[dict[TokenId, Bias], Field(max_length=MOST_BIASES)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**64)] | None = None
    stop: Annotated[tuple[str, ...], BeforeValidator(_as_stops)] = ()
    reasoning_effort: Effort | None = None
    chat_template_kwargs: TemplateOptions | None = None
    n: int | None = None
    response_format: ResponseFormat | None = None
    modalities: list[str] | None = None
    tool_choice: Any = None
    function_call: Any = None
    service_tier: str | None = None
    # Without effect on the answer: they describe the client to the provider.
    user: str | None = None
    safety_identifier: str | None = None
    metadata: dict[str, str] | None = None
    prompt_cache_key: str | None = None
    # Accepted only without a value: this engine supports none of them.
    audio: Unsupported = None
    functions: Unsupported = None
    logprobs: Unsupported = None
    parallel_tool_calls: Unsupported = None
    prediction: Unsupported = None
    prompt_cache_retention: Unsupported = None
    store: Unsupported = None
    tools: Unsupported = None
    top_logprobs: Unsupported = None
    verbosity: Unsupported = None
    web_search_options: Unsupported = None

    @model_validator(mode="after")
    def _supported(self) -> ChatRequest:
        """Raise an error for values that the protocol defines and this engine does not support."""
        refused = {
            "n": self.n not in (None, 1),
            "response_format": self.response_format is not None and self.response_format.type != "text",
            "modalities": self.modalities not in (None, ["text"]),
            "tool_choice": self.tool_choice not in (None, "none"),
            "function_call": self.function_call not in (None, "none"),
            "service_tier": self.service_tier not in (None, "auto", "default"),
        }
        for name, unsupported in refused.items():
            if unsupported:
                raise PydanticCustomError("unsupported_value", "{name}", {"name": name})
        twice = {"max_completion_tokens": "max_tokens", "repetition_penalty": "repeat_penalty"}
        for name, other in twice.items():
            values = {getattr(self, name), getattr(self, other)} - {None}
            if len(values) > 1:
                raise PydanticCustomError("twice", "{name} {other}", {"name": name, "other": other})
        if self.stream_options is not None and not self.stream:
            raise PydanticCustomError("stream_options", "")
        return self

    def sampling(self) -> SamplingParameters:
        """Return how tokens are drawn; without a seed in the request, choose a random one."""
        plain = SamplingParameters()
        repeat = self.repeat_penalty if self.repetition_penalty is None else self.repetition_penalty
        return SamplingParameters(
            temperature=_or(self.temperature, plain.temperature),
            top_p=_or(self.top_p, plain.top_p),
            top_k=plain.top_k if self.top_k is None else self.top_k,
            min_p=_or(self.min_p, plain.min_p),
            typical_p=_or(self.typical_p, plain.typical_p),
            repeat_penalty=_or(repeat, plain.repeat_penalty),
            frequency_penalty=_or(self.frequency_penalty, plain.frequency_penalty),
            presence_penalty=_or(self.presence_penalty, plain.presence_penalty),
            logit_bias=tuple((int(token), bias) for token, bias in (self.logit_bias or {}).items()),
            seed=secrets.randbits(31) if self.seed is None else self.seed,
        )

    def conversation(self) -> list[PromptMessage]:
        """Return the messages, each with its reasoning separated from its text."""
        return [_message(message) for message in self.messages]

    def limit(self) -> int | None:
        """Return the maximum number of tokens of the answer; `None` for as many as fit."""
        return self.max_completion_tokens or self.max_tokens

    def include_usage(self) -> bool:
        """Return whether a stream ends with the number of tokens used."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)


def _message(message: SystemMessage | UserMessage | AssistantMessage) -> PromptMessage:
    content = message.content
    text = content if isinstance(content, str) else "".join(part.text for part in content)
    if not isinstance(message, AssistantMessage):
        role: PromptRole = "user" if message.role == "user" else "system"
        return PromptMessage(role, text)
    reasoning, answer = separate(text)
    return PromptMessage("assistant", answer, message.reasoning_content or message.reasoning or reasoning)


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def parse_chat_request(body: bytes) -> ChatRequest:
    """Return the request in the JSON `body`.

    Raises:
        RequestError: The body is not a chat request, or requires an unsupported feature (status 400).

    """
    try:
        request = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise RequestError(f"cannot parse the body as JSON: {error}") from None
    if not isinstance(request, dict):
        raise RequestError("the body must be a JSON object")
    _refuse_unknown(request)
    try:
        return ChatRequest.model_validate(request)
    except ValidationError as error:
        if error.error_count() > MOST_MISTAKES:
            raise RequestError(f"invalid request: {error.error_count()} mistakes") from None
        raise _mistake(error.errors(include_url=False, include_input=False)[0]) from None


def _refuse_unknown(request: dict[str, Any]) -> None:
    unknown = [name for name in request if name not in ChatRequest.model_fields]
    if not unknown:
        return
    shown = ", ".join(name[:80] for name in unknown[:5]) + (" …" if len(unknown) > 5 else "")
    like = difflib.get_close_matches(unknown[0][:80], ChatRequest.model_fields, n=1)
    hint = f" (did you mean {like[0]}?)" if like else ""
    raise RequestError(
        f"{shown}: unknown field of a chat request{hint}",
        code="unknown_parameter",
        param=unknown[0][:80],
    )


def _mistake(mistake: ErrorDetails) -> RequestError:
    """Return the mistake in OpenAI's form: `param` is the field, such as `messages[0].content`."""
    kind, context = mistake["type"], mistake.get("ctx", {})
    place = _place(mistake["loc"])
    if kind == "unsupported_value":
        return _not_supported(context["name"], "this value is not supported by this engine")
    if kind == "unsupported":
        return _not_supported(place, mistake["msg"])
    if kind == "twice":
        name, other = context["name"], context["other"]
        return RequestError(f"{name}: conflicts with {other}, which has the same meaning", param=name)
    if kind == "stream_options":
        return RequestError("stream_options: only allowed with stream", param="stream_options")
    if kind == "extra_forbidden":
        return RequestError(f"{place}: unknown field", code="unknown_parameter", param=place)
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return RequestError(
            f"{place}.role: must be system, developer, user or assistant", param=f"{place}.role"
        )
    if mistake["loc"][-1:] == ("[key]",):
        return RequestError(f"{place}: the key must be the number of a token", param=place)
    message = mistake["msg"]
    return RequestError(f"{place}: {message[:1].lower()}{message[1:]}", param=place)


def _not_supported(place: str, why: str) -> RequestError:
    return RequestError(f"{place}: {why}", code="unsupported_parameter", param=place)


def _place(location: tuple[int | str, ...]) -> str:
    """Return the field of a mistake, without the names of union members that pydantic adds to it."""
    place = ""
    for index, step in enumerate(location):
        before = location[index - 1] if index else None
        if step == "[key]" and index == len(location) - 1:
            break  # pydantic's name for the key itself, which is already included
        if isinstance(step, int):
            place += f"[{step}]"
        elif not (before == "content" or (isinstance(before, int) and index == 2)):
            place += f".{step[:80]}" if place else step[:80]
    return place
