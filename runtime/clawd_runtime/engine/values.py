"""The values passed between the API and the batcher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from clawd_runtime.engine.grammar.constraint import Constraint
from clawd_runtime.engine.tools.values import ToolCall
from clawd_runtime.errors import RuntimeFault

FinishReason = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True, slots=True)
class SamplingParameters:
    """Parameters for drawing a token. `temperature` 0 takes the likeliest one; `top_k` 0 considers all.

    `min_p` excludes tokens less likely than this fraction of the likeliest one's probability, `typical_p`
    keeps the most typical tokens with this total probability. `repeat_penalty` divides the score of tokens
    drawn before (1: no penalty). `logit_bias` is added to the scores of these tokens.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 40
    min_p: float = 0.0
    typical_p: float = 1.0
    repeat_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    seed: int = 0


@dataclass(frozen=True, slots=True)
class AnswerJob:
    """An answer to compute: `prompt` tokens in, at most `max_tokens` tokens out, ending before a `stop`.

    `opening` is the end of the prompt after the last message, which may open the reasoning. `top_logprobs` is
    how many of the likeliest tokens to report for each one drawn (0: only that one; `None`: nothing).

    A `constraint` limits the text that follows the reasoning; the batcher closes it. `plain` text is not
    searched for reasoning. `field` is the field of the request that the prompt is from, `user` who sent it,
    `conversation` a digest of the name that the client gave to the conversation.
    """

    prompt: tuple[int, ...]
    max_tokens: int
    sampling: SamplingParameters = SamplingParameters()
    stop: tuple[str, ...] = ()
    opening: str = ""
    top_logprobs: int | None = None
    constraint: Constraint | None = None
    plain: bool = False
    field: str = "messages"
    user: str = ""
    conversation: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one answer. `reused` of the `prompt` tokens were already computed for an earlier one.

    `reasoning` of the `completion` tokens are reasoning.
    """

    prompt: int
    reused: int
    completion: int
    reasoning: int = 0


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token with the logarithm of its probability before sampling, and the likeliest ones in its place."""

    piece: bytes
    logprob: float
    top: tuple[tuple[bytes, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Delta:
    """A further piece of an answer, and a further piece of its reasoning.

    `logprobs` are those of the answer's tokens whose text has become certain. `calls` are tools that the
    model calls after the text.

    With `restarts`, all text so far was reasoning, and `reasoning` repeats it: only a closing mark was found.
    """

    text: str
    reasoning: str = ""
    restarts: bool = False
    logprobs: tuple[TokenLogprob, ...] = ()
    calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer is complete."""

    reason: FinishReason
    usage: Usage


@dataclass(frozen=True, slots=True)
class Failed:
    """The answer will not be completed."""

    fault: RuntimeFault


Event = Delta | Finished | Failed
