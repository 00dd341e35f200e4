"""The interface of a model to the engine, so that the rest can be tested without a model."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from clawd_runtime.engine.grammar.constraint import Constraint
from clawd_runtime.engine.states.room import StateBuffer
from clawd_runtime.engine.values import SamplingParameters, TokenLogprob


@dataclass(frozen=True, slots=True)
class Feed:
    """Tokens of one sequence for one step, the first at `position`.

    With `draw`, a token will be drawn from the result of the last one.
    """

    seq: int
    position: int
    tokens: Sequence[int]
    draw: bool


class StepInterrupted(Exception):
    """A step was interrupted; every sequence is as before it, except the `lost` ones, which hold nothing."""

    def __init__(self, lost: Collection[int] = ()) -> None:
        super().__init__("the step was interrupted")
        self.lost = frozenset(lost)


class Computer(Protocol):
    """A model with a context of `parallel` sequences. All calls are made from one thread."""

    @property
    def parallel(self) -> int:
        """Number of sequences."""

    @property
    def context_size(self) -> int:
        """Number of tokens that each sequence can hold."""

    @property
    def capacity(self) -> int:
        """Maximum number of tokens per step, at least `parallel`."""

    def step(self, feeds: Sequence[Feed]) -> None:
        """Compute all `feeds`, given in increasing sequence order, together.

        Raises:
            EngineError: The step failed; the content of the sequences in `feeds` is then undefined.
            StepInterrupted: `interrupt` was called.

        """

    def interrupt(self) -> None:
        """Make the step that is being computed, if any, end at once. May be called from any thread."""

    def draw(self, seq: int, constraint: Constraint | None = None) -> int:
        """Return the next token of `seq`, which was fed with `draw` in the last step.

        Raises:
            RequestError: The constraint does not allow any token, or takes too much time.

        """

    def logprob(self, seq: int, token: int, top: int) -> TokenLogprob:
        """Return the probability of `token`, the one drawn last, and those of the `top` likeliest ones."""

    def begin(self, seq: int, sampling: SamplingParameters) -> None:
        """Prepare `seq` for drawing a new answer."""

    def end(self, seq: int) -> None:
        """Forget the sampling of `seq`; keep its tokens."""

    def keep(self, seq: int, count: int) -> int:
        """Keep only the first `count` tokens of `seq` and return how many are kept.

        Some models keep all or none.
        """

    def copy(self, source: int, target: int, count: int) -> int:
        """Copy the first `count` tokens of `source` to `target` and return how many it then holds (or 0)."""

    @property
    def divisible(self) -> bool:
        """Whether a part of a sequence's tokens can be kept; recurrent models keep all or none."""

    def state_size(self, seq: int) -> int:
        """Return the bytes that `save` would write."""

    def save(self, seq: int, state: StateBuffer) -> bool:
        """Write what was computed for the tokens of `seq`; return whether it succeeded."""

    def restore(self, seq: int, state: StateBuffer, size: int) -> bool:
        """Make `seq` hold the tokens of a saved state; if it fails, `seq` holds none."""

    def piece(self, token: int) -> bytes:
        """Return the bytes of `token`; empty for a control token, unless `write_out` named it."""

    def ends_answer(self, token: int) -> bool:
        """Return whether `token` ends the model's turn."""


class Embedder(Protocol):
    """What computes embeddings, next to the batch. Calls are made one at a time, from any thread."""

    @property
    def dimensions(self) -> int:
        """Number of an embedding's components."""

    def embed(self, tokens: Sequence[int]) -> Any:
        """Return the embedding of a text as an array of 32-bit floats of length 1."""

    def close(self) -> None:
        """Free all memory."""


class ChatModel(Computer, Protocol):
    """A computer that also tokenizes text and has a chat template."""

    def tokenize(self, *pieces: str) -> tuple[int, ...]:
        """Return the tokens of a prompt; none spans two pieces. May be called from any thread."""

    def plain_tokens(self, text: str, *, begin: bool) -> tuple[int, ...]:
        """Return the tokens of `text`, in which texts of control tokens are ordinary text.

        With `begin`, add the tokens that begin a prompt. May be called from any thread.
        """

    def whole_piece(self, token: int) -> bytes:
        """Return the bytes of `token`, also of a control token. May be called from any thread."""

    @property
    def chat_template(self) -> str:
        """Return the Jinja source of the chat template.

        Raises:
            ModelError: The model has no chat template.

        """

    @property
    def bos(self) -> str:
        """Return the text of the beginning-of-text token; empty if there is none."""

    @property
    def eos(self) -> str:
        """Return the text of the end-of-text token; empty if there is none."""

    @property
    def vocabulary_size(self) -> int:
        """Number of tokens in the vocabulary."""

    @property
    def longest_token(self) -> int:
        """Length of the longest token's text in bytes."""

    def control_texts(self) -> Iterable[str]:
        """Return the texts of all control tokens."""

    def added_texts(self) -> Iterable[str]:
        """Return the texts of all added tokens: recognised whole like control tokens, but readable text."""

    def write_out(self, texts: Iterable[str]) -> None:
        """Make `piece` return the text of these control tokens, too."""

    @property
    def state_parameters(self) -> dict[str, object]:
        """What saved states depend on, in addition to the weights."""

    def open_embedder(self) -> Embedder:
        """Return what computes embeddings with the same weights.

        Raises:
            ModelError: There is not enough memory.

        """

    def close(self) -> None:
        """Free all memory; the model must not be used afterwards."""


@dataclass(frozen=True, slots=True)
class Offload:
    """How many of a model's `layers` are computed on GPUs, and the names of these GPUs."""

    gpu_layers: int
    layers: int
    gpus: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Opened:
    """A loaded model with its processor variant, its number of threads and what it offloads to GPUs."""

    model: ChatModel
    variant: str
    threads: int
    offload: Offload | None = None
