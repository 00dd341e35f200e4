"""The plain values that cross between the API and the batcher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from clawd_runtime.errors import RuntimeFault

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn. `temperature` 0 takes the likeliest one; `top_k` 0 considers all."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 40
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """One answer to compute: `prompt` tokens in, at most `max_tokens` tokens out, ending before a `stop`."""

    prompt: tuple[int, ...]
    max_tokens: int
    sampling: Sampling = Sampling()
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer. `reused` of the `prompt` tokens were still held from an earlier one."""

    prompt: int
    reused: int
    completion: int


@dataclass(frozen=True, slots=True)
class Delta:
    """More text of an answer."""

    text: str


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
