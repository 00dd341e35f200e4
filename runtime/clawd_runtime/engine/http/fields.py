"""Types of the fields that several kinds of requests share."""

from __future__ import annotations

import secrets
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from clawd_runtime.engine.values import SamplingParameters

MOST_STOP_STRINGS = 4
LONGEST_STOP_STRING = 200  # characters
MOST_BIASES = 1024
MOST_CHOICES = 16
MOST_TOP_LOGPROBS = 20


class Strict(BaseModel):
    """An object with no other fields than these."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", protected_namespaces=())


def _unsupported(value: Any) -> None:
    """Raise an error if a field that this engine does not support has a value."""
    if value:
        raise PydanticCustomError("unsupported", "not supported by this engine")


def _as_stops(value: Any) -> tuple[str, ...]:
    """Return the stop strings, or raise an error that names what is wrong with them."""
    if value is None:
        return ()
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list | tuple) or not all(isinstance(stop, str) for stop in stops):
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


_NO_VALUE = [
    {"enum": [None, False, 0, ""]},
    {"type": "array", "maxItems": 0},
    {"type": "object", "maxProperties": 0},
]
_STOP = {"type": "string", "minLength": 1, "maxLength": LONGEST_STOP_STRING}
_STOPS = [
    {"type": "null"},
    _STOP,
    {"type": "array", "items": _STOP, "maxItems": MOST_STOP_STRINGS},
]

Unsupported = Annotated[Any, AfterValidator(_unsupported), WithJsonSchema({"anyOf": _NO_VALUE})]
Stops = Annotated[tuple[str, ...], BeforeValidator(_as_stops), WithJsonSchema({"anyOf": _STOPS})]
Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Penalty = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]
TokenLimit = Annotated[int, Field(ge=1, le=2**31 - 1)]
Bias = Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]
TokenId = Annotated[str, Field(pattern="^[0-9]{1,9}$")]


class StreamOptions(Strict):
    """Options for the end of a stream."""

    include_usage: bool | None = None
    include_obfuscation: Unsupported = None


class GenerationFields(Strict):
    """The fields of every request that generates text. A field that is absent or null has its default.

    Not in OpenAI's API, but known from other engines: `top_k` (only that many likeliest tokens are
    considered, 0 for all), `min_p`, `typical_p`, `repeat_penalty` (or `repetition_penalty`), `grammar` (the
    answer matches this GBNF grammar).
    """

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: TokenLimit | None = None
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
    stop: Stops = ()
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    grammar: str | None = None
    user: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> GenerationFields:
        refuse_twice(self, "repetition_penalty", "repeat_penalty")
        if self.stream_options is not None and not self.stream:
            raise PydanticCustomError("stream_options", "")
        return self

    def choices(self) -> int:
        """Return how many answers to the same prompt are wanted."""
        return self.n or 1

    def sampling(self) -> list[SamplingParameters]:
        """Return how tokens are drawn for each choice.

        The first one has the request's seed, or a random one, and each further one the next seed.
        """
        plain = SamplingParameters()
        repeat = self.repeat_penalty if self.repetition_penalty is None else self.repetition_penalty
        seed = secrets.randbits(31) if self.seed is None else self.seed
        return [
            SamplingParameters(
                temperature=_or(self.temperature, plain.temperature),
                top_p=_or(self.top_p, plain.top_p),
                top_k=plain.top_k if self.top_k is None else self.top_k,
                min_p=_or(self.min_p, plain.min_p),
                typical_p=_or(self.typical_p, plain.typical_p),
                repeat_penalty=_or(repeat, plain.repeat_penalty),
                frequency_penalty=_or(self.frequency_penalty, plain.frequency_penalty),
                presence_penalty=_or(self.presence_penalty, plain.presence_penalty),
                logit_bias=tuple((int(token), bias) for token, bias in (self.logit_bias or {}).items()),
                seed=seed + choice,
            )
            for choice in range(self.choices())
        ]

    def include_usage(self) -> bool:
        """Return whether a stream ends with the number of tokens used."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)


def refuse_twice(request: BaseModel, name: str, other: str) -> None:
    """Raise an error if two fields of the same meaning have different values."""
    if len({getattr(request, name), getattr(request, other)} - {None}) > 1:
        raise PydanticCustomError("twice", "{name} {other}", {"name": name, "other": other})


def _or(value: float | None, default: float) -> float:
    return default if value is None else value
