"""The plain values that cross between the API and the batcher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from clawd_runtime.errors import RuntimeFault

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn. `temperature` 0 takes the likeliest one; `top_k` 0 considers all.

    `min_p` leaves out tokens less likely than this part of the likeliest one's probability, `typical_p` keeps
    the most typical ones of this probability together. `repeat_penalty` divides the score of tokens that were
    drawn before (1: not). `logit_bias` is added to the scores of these tokens.
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
class Job:
    """One answer to compute: `prompt` tokens in, at most `max_tokens` tokens out, ending before a `stop`.

    `opening` is the text with which the prompt ends, after the last message: it may open the reasoning.
    """

    prompt: tuple[int, ...]
    max_tokens: int
    sampling: Sampling = Sampling()
    stop: tuple[str, ...] = ()
    opening: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer. `reused` of the `prompt` tokens were still held from an earlier one.

    `reasoning` of the `completion` tokens are reasoning.
    """

    prompt: int
    reused: int
    completion: int
    reasoning: int = 0


@dataclass(frozen=True, slots=True)
class Delta:
    """More text of an answer, and more of the reasoning that is not part of it.

    With `restarts`, all text so far was reasoning, and `reasoning` repeats it: only the closing mark came.
    """

    text: str
    reasoning: str = ""
    restarts: bool = False


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
