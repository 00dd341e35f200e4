"""Requests without a chat template: completions of text, embeddings, tokens of a text and back.

Sources: https://platform.openai.com/docs/api-reference/completions and …/embeddings; `tokenize` and
`detokenize` as llama.cpp's server and vLLM have them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from clawd_runtime.engine.http.fields import GenerationFields, Strict, Unsupported

MOST_PROMPTS = 64
MOST_INPUTS = 256
MOST_TOKENS = 2**20

CompletionPrompt = str | tuple[int, ...]
"""A text, or its tokens."""


def _as_prompts(value: Any) -> tuple[CompletionPrompt, ...]:
    """Return the prompts of OpenAI's four forms: a text, texts, tokens, lists of tokens."""
    if isinstance(value, str) or _are_tokens(value):
        value = [value]
    if not isinstance(value, list) or not value:
        raise PydanticCustomError("prompt", "must be a string, a list of tokens, or a list of these")
    if not (all(isinstance(each, str) for each in value) or all(map(_are_tokens, value))):
        raise PydanticCustomError("prompt", "must be strings only, or lists of tokens only")
    if any(len(each) > MOST_TOKENS for each in value if not isinstance(each, str)):
        raise PydanticCustomError("prompt", "too many tokens")
    return tuple(each if isinstance(each, str) else tuple(each) for each in value)


def _are_tokens(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(each, int) and not isinstance(each, bool) and 0 <= each < 2**31 for each in value)
    )


_TOKENS = {
    "type": "array",
    "items": {"type": "integer", "minimum": 0, "exclusiveMaximum": 2**31},
    "minItems": 1,
    "maxItems": MOST_TOKENS,
}


def _prompts_schema(most: int) -> dict[str, Any]:
    lists = [
        {"type": "array", "items": items, "minItems": 1, "maxItems": most}
        for items in ({"type": "string"}, _TOKENS)
    ]
    return {"anyOf": [{"type": "string"}, _TOKENS, *lists]}


Prompts = Annotated[tuple[Any, ...], BeforeValidator(_as_prompts)]


class CompletionRequest(GenerationFields):
    """A request to continue texts. `max_tokens` is 16 unless given, as in OpenAI's API."""

    prompt: Annotated[Prompts, Field(max_length=MOST_PROMPTS), WithJsonSchema(_prompts_schema(MOST_PROMPTS))]
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    best_of: int | None = None
    # Accepted only without a value.
    suffix: Unsupported = None

    @model_validator(mode="after")
    def _supported(self) -> CompletionRequest:
        if self.best_of not in (None, self.choices()):
            raise PydanticCustomError("unsupported_value", "{name}", {"name": "best_of"})
        if self.echo and self.logprobs is not None:
            raise PydanticCustomError("field", "", {"name": "echo", "why": "not supported with logprobs"})
        return self

    def limit(self) -> int:
        """Return the maximum number of tokens of each answer."""
        return self.max_tokens or 16


class EmbeddingRequest(Strict):
    """A request for the embeddings of texts."""

    model: str
    input: Annotated[Prompts, Field(max_length=MOST_INPUTS), WithJsonSchema(_prompts_schema(MOST_INPUTS))]
    encoding_format: Literal["float", "base64"] | None = None
    user: str | None = None
    dimensions: Annotated[int, Field(ge=1, le=2**20)] | None = None


class TokenizeRequest(Strict):
    """A request for the tokens of a text, in which texts of control tokens are ordinary text.

    `with_pieces` asks for the text of each token, too. `add_special` adds the tokens that begin a prompt.
    """

    model: str | None = None
    content: str
    add_special: bool | None = None
    with_pieces: bool | None = None


class DetokenizeRequest(Strict):
    """A request for the text of tokens."""

    model: str | None = None
    tokens: Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(max_length=MOST_TOKENS)]
