"""What the engine needs of a model, written down so that the rest is tested without one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from clawd_runtime.engine.values import Sampling


@dataclass(frozen=True, slots=True)
class Feed:
    """Tokens of one sequence for one step; the first stands at `position`.

    `draw` says that a token will be drawn from what the last of them gives.
    """

    seq: int
    position: int
    tokens: Sequence[int]
    draw: bool


class Computer(Protocol):
    """A model with a context of `parallel` sequences. All calls come from one thread."""

    @property
    def parallel(self) -> int:
        """How many sequences it holds."""

    @property
    def context_size(self) -> int:
        """Tokens that each sequence can hold."""

    @property
    def capacity(self) -> int:
        """Tokens of one step at most, not less than `parallel`."""

    def step(self, feeds: Sequence[Feed]) -> None:
        """Compute all `feeds`, which come in increasing sequence order, together.

        Raises:
            EngineError: it could not; what the sequences of `feeds` hold is then undefined.
        """

    def draw(self, seq: int) -> int:
        """The next token of `seq`, which was fed with `draw` in the last step."""

    def begin(self, seq: int, sampling: Sampling) -> None:
        """Prepare drawing for a new answer of `seq`."""

    def end(self, seq: int) -> None:
        """Forget how `seq` draws; what it holds stays."""

    def keep(self, seq: int, count: int) -> int:
        """Keep the first `count` tokens of `seq` only; how many are kept (some models: all or none)."""

    def copy(self, source: int, target: int, count: int) -> int:
        """Make `target` hold the first `count` tokens of `source`; how many it then holds (or none)."""

    def piece(self, token: int) -> bytes:
        """The bytes of `token`; none for a control token, unless it is to be written out."""

    def ends_answer(self, token: int) -> bool:
        """Whether `token` is one with which the model ends its turn."""


class ChatModel(Computer, Protocol):
    """A computer that also turns text into tokens and knows its chat template."""

    def tokenize(self, *pieces: str) -> tuple[int, ...]:
        """The tokens of a prompt; across its pieces none is recognised. May be called from any thread."""

    @property
    def chat_template(self) -> str:
        """The Jinja source of the chat template.

        Raises:
            ModelError: the model has none.
        """

    @property
    def bos(self) -> str:
        """The text of the token with which texts begin; empty when there is none."""

    @property
    def eos(self) -> str:
        """The text of the token with which texts end; empty when there is none."""

    @property
    def vocabulary_size(self) -> int:
        """How many tokens there are."""

    @property
    def longest_token(self) -> int:
        """The length of the longest token's text, in bytes."""

    def control_texts(self) -> Iterable[str]:
        """The texts of all control tokens."""

    def added_texts(self) -> Iterable[str]:
        """The texts of all tokens that are recognised whole, as control tokens are, but can be read."""

    def write_out(self, texts: Iterable[str]) -> None:
        """Let `piece` give the text of these control tokens, too."""

    def close(self) -> None:
        """Give back all memory; the model must not be used afterwards."""


@dataclass(frozen=True, slots=True)
class Offload:
    """How many of a model's `layers` GPUs compute, and the names of those."""

    gpu_layers: int
    layers: int
    gpus: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Opened:
    """A loaded model, which processor variant computes it, with how many threads, and what GPUs do of it."""

    model: ChatModel
    variant: str
    threads: int
    offload: Offload | None = None
