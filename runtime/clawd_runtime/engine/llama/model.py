"""A loaded model and its context: the only module that computes with llama.cpp.

`LlamaModel` is a `computer.ChatModel`. API: llama.h of the llama.cpp that llama-cpp-python bundles.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import llama_cpp
import numpy as np

from clawd_runtime.engine.batching.computer import Feed, Offload, Opened, StepInterrupted
from clawd_runtime.engine.grammar.constraint import Constraint
from clawd_runtime.engine.llama import mapping
from clawd_runtime.engine.llama.backends import load_backends, require_gpu
from clawd_runtime.engine.llama.cpus import usable_cpus
from clawd_runtime.engine.llama.embedding import LlamaEmbedder
from clawd_runtime.engine.llama.gguf import check_gguf
from clawd_runtime.engine.llama.log import capture_log
from clawd_runtime.engine.llama.sampling import sampled, sampler_chain
from clawd_runtime.engine.settings import EngineSettings
from clawd_runtime.engine.states.room import StateBuffer
from clawd_runtime.engine.values import SamplingParameters, TokenLogprob
from clawd_runtime.errors import EngineError, ModelError, RequestError

# Maximum number of tokens per step. More are no faster on processors and delay the end of a cancelled answer.
STEP_CAPACITY = 256

# Put before a text to find out which tokens a tokenizer inserts at the beginning; no token spans it.
_LINE_BREAK = "\n"

_ABORTED = 2  # returned by llama_decode


def open_model(settings: EngineSettings) -> Opened:
    """Load the back ends and the model named in `settings`; takes seconds.

    Raises:
        ModelError: No back end runs here, a required GPU is missing, or the model cannot be served.

    """
    backend = load_backends()
    gpus = require_gpu() if settings.n_gpu_layers else ()
    threads = min(settings.threads or usable_cpus(), usable_cpus())
    model = LlamaModel(
        Path(settings.model),
        context_size=settings.context_size,
        parallel=settings.parallel,
        threads=threads,
        n_gpu_layers=settings.n_gpu_layers,
    )
    offload = Offload(*model.offloaded, gpus) if model.offloaded else None
    return Opened(model, backend.variant, threads, offload)


class LlamaModel:
    """A GGUF model with a context of `parallel` sequences of `context_size` tokens each."""

    def __init__(
        self,
        path: Path,
        *,
        context_size: int,
        parallel: int,
        threads: int,
        n_gpu_layers: int | Literal["all"] = 0,
    ) -> None:
        """Load the model. The back ends must be loaded already.

        Raises:
            ModelError: The file is missing, corrupt or of an unsupported kind, or memory is short.

        """
        check_gguf(path)
        self.parallel = parallel
        self.context_size = context_size
        self.capacity = max(STEP_CAPACITY, parallel)
        with capture_log() as complaints:
            self._model: Any = llama_cpp.llama_model_load_from_file(
                os.fsencode(path), _model_parameters(n_gpu_layers)
            )
            if not self._model:
                raise ModelError(
                    f"llama.cpp cannot load the model {path}: {complaints.text() or 'no reason given'}",
                    advice="the file is damaged or of an unsupported kind: replace it with the right one"
                    + (", or with a smaller one if the GPU's memory is too small" if n_gpu_layers else ""),
                )
            mapping.release(path)
            self.offloaded = complaints.offloaded
            if n_gpu_layers and (self.offloaded is None or not self.offloaded[0]):
                raise ModelError(
                    f"cannot use the GPU: llama.cpp loaded {path} without offloading any layer",
                    advice="start the engine by hand with --verbose and read the log of llama.cpp",
                )
            trained = llama_cpp.llama_model_n_ctx_train(self._model)
            if context_size > trained:
                raise ModelError(
                    f"context_size {context_size} is too large: {path} is trained for {trained} tokens",
                    advice=f"set context_size to {trained} or less",
                )
            self._context: Any = llama_cpp.llama_init_from_model(self._model, self._parameters(threads))
            if not self._context:
                raise ModelError(
                    f"cannot allocate {parallel} sequences of {context_size} tokens: {complaints.text()}",
                    advice="lower parallel or context_size",
                )
        self._vocabulary: Any = llama_cpp.llama_model_get_vocab(self._model)
        self._memory: Any = llama_cpp.llama_get_memory(self._context)
        self._batch: Any = llama_cpp.llama_batch_init(self.capacity, 0, 1)
        self.vocabulary_size = int(llama_cpp.llama_vocab_n_tokens(self._vocabulary))
        self.longest_token = max(
            len(self._read_piece(token, special=True)) for token in range(self.vocabulary_size)
        )
        self._window = int(llama_cpp.llama_model_n_swa(self._model))
        self.divisible = not (
            llama_cpp.llama_model_is_recurrent(self._model) or llama_cpp.llama_model_is_hybrid(self._model)
        )
        # llama.cpp asks several hundred times a step whether to abort: not Python, but a function of C that
        # returns the number in a text.
        self._interrupted = ctypes.create_string_buffer(b"0")
        asked = ctypes.cast(ctypes.CDLL(None).atoi, ctypes.c_void_p).value
        self._is_interrupted = llama_cpp.ggml_abort_callback(asked)
        llama_cpp.llama_set_abort_callback(
            self._context, self._is_interrupted, ctypes.cast(self._interrupted, ctypes.c_void_p)
        )
        self._samplers: dict[int, Any] = {}
        self._rows: dict[int, int] = {}
        self._pieces: dict[int, bytes] = {}

    @property
    def state_parameters(self) -> dict[str, object]:
        """What saved states depend on, in addition to the weights."""
        parameters = self._parameters(1)
        return {
            "library": llama_cpp.__version__,
            "keys": parameters.type_k,
            "values": parameters.type_v,
            "flash_attention": parameters.flash_attn_type,
            "unified": parameters.kv_unified,
            "context_size": self.context_size,
            "sequences": self.parallel,
        }

    def _parameters(self, threads: int) -> Any:
        parameters = llama_cpp.llama_context_default_params()
        # A separate region for each sequence, so that none attends to the cells of another.
        parameters.kv_unified = False
        parameters.n_ctx = self.context_size * self.parallel
        parameters.n_seq_max = self.parallel
        parameters.n_batch = self.capacity
        parameters.n_ubatch = self.capacity
        parameters.n_outputs_max = self.parallel
        parameters.n_outputs_max_per_seq = 1
        parameters.n_threads = threads
        parameters.n_threads_batch = threads
        parameters.no_perf = True
        return parameters

    def open_embedder(self) -> LlamaEmbedder:
        """Return what computes embeddings with the same weights.

        Raises:
            ModelError: There is not enough memory.

        """
        return LlamaEmbedder(self._model, context_size=self.context_size)

    def close(self) -> None:
        """Free all memory; the model must not be used afterwards."""
        for seq in list(self._samplers):
            self.end(seq)
        llama_cpp.llama_batch_free(self._batch)
        llama_cpp.llama_free(self._context)
        llama_cpp.llama_model_free(self._model)

    # --- called by the batcher --------------------------------------------------------------------

    def step(self, feeds: Sequence[Feed]) -> None:
        """Compute all `feeds`, given in increasing sequence order, in one `llama_decode`.

        Raises:
            EngineError: llama.cpp failed; the content of the sequences in `feeds` is then undefined.
            StepInterrupted: `interrupt` was called.

        """
        batch, row = self._batch, 0
        self._rows.clear()
        self._interrupted.value = b"0"
        for feed in feeds:
            for offset, token in enumerate(feed.tokens):
                batch.token[row] = token
                batch.pos[row] = feed.position + offset
                batch.n_seq_id[row] = 1
                batch.seq_id[row][0] = feed.seq
                batch.logits[row] = False
                row += 1
            if feed.draw:
                batch.logits[row - 1] = True
                self._rows[feed.seq] = row - 1
        batch.n_tokens = row
        with capture_log() as complaints:
            code = llama_cpp.llama_decode(self._context, batch)
        if code == _ABORTED:
            raise StepInterrupted(
                [feed.seq for feed in feeds if self.keep(feed.seq, feed.position) != feed.position]
            )
        if code != 0:
            raise EngineError(
                f"llama_decode failed with code {code}: {complaints.text() or 'no reason given'}"
            )

    def interrupt(self) -> None:
        """Make the step that is being computed, if any, end at once. May be called from any thread."""
        self._interrupted.value = b"1"

    def draw(self, seq: int, constraint: Constraint | None = None) -> int:
        """Return the next token of `seq`, which was fed with `draw` in the last step.

        Raises:
            RequestError: The constraint does not allow any token, or takes too much time.

        """
        chain = self._samplers[seq]
        if constraint is None:
            return int(llama_cpp.llama_sampler_sample(chain, self._context, self._rows[seq]))
        token = self._draw_within(chain, self._logits(seq), constraint)
        llama_cpp.llama_sampler_accept(chain, token)
        return token

    def _draw_within(self, chain: Any, logits: Any, constraint: Constraint) -> int:
        """Return a token that `constraint` allows; ask it for all tokens only if it refuses the first."""
        token = sampled(chain, np.arange(self.vocabulary_size), logits)
        allowed = constraint.next(token)
        if allowed is None:
            return token
        # Only these, because some samplers cannot compute with a probability of 0.
        tokens = np.flatnonzero(allowed[: self.vocabulary_size])
        if not len(tokens):
            raise RequestError("the model cannot continue: the grammar does not allow any token here")
        token = sampled(chain, tokens, logits[tokens])
        constraint.accept(token)
        return token

    def logprob(self, seq: int, token: int, top: int) -> TokenLogprob:
        """Return the probability of `token`, the one drawn last, and those of the `top` likeliest ones."""
        logits = self._logits(seq).astype(np.float64)
        highest = logits.max()
        total = highest + np.log(np.exp(logits - highest).sum())
        likeliest = np.argpartition(logits, -top)[-top:] if top else np.array([], int)
        likeliest = likeliest[np.argsort(-logits[likeliest], kind="stable")]

        def of(other: int) -> tuple[bytes, float]:
            return self._read_piece(other, special=True), float(logits[other] - total)

        return TokenLogprob(*of(token), tuple(map(of, map(int, likeliest))))

    def _logits(self, seq: int) -> Any:
        """Return the scores of all tokens, which the next step overwrites."""
        row = llama_cpp.llama_get_logits_ith(self._context, self._rows[seq])
        return np.ctypeslib.as_array(row, shape=(self.vocabulary_size,))

    def begin(self, seq: int, sampling: SamplingParameters) -> None:
        """Prepare `seq` for drawing a new answer."""
        self.end(seq)
        self._samplers[seq] = sampler_chain(sampling, self.vocabulary_size)

    def end(self, seq: int) -> None:
        """Forget the sampling of `seq`; keep its tokens."""
        chain = self._samplers.pop(seq, None)
        if chain is not None:
            llama_cpp.llama_sampler_free(chain)

    def keep(self, seq: int, count: int) -> int:
        """Keep only the first `count` tokens of `seq` and return how many are kept.

        Recurrent models keep all or none; models with a sliding window none if tokens in front of the end
        were dropped already.
        """
        if self._windowed(seq, count) and llama_cpp.llama_memory_seq_rm(self._memory, seq, count, -1):
            return count
        llama_cpp.llama_memory_seq_rm(self._memory, seq, -1, -1)
        return 0

    def _windowed(self, seq: int, count: int) -> bool:
        """Return whether all tokens that the next one after `count` attends to are there."""
        first = llama_cpp.llama_memory_seq_pos_min(self._memory, seq)
        return int(first) <= max(0, count + 1 - self._window)

    def copy(self, source: int, target: int, count: int) -> int:
        """Copy the first `count` tokens of `source` to `target` and return how many it then holds (or 0).

        It needs no memory, but copies the room of all tokens that a sequence can have.
        """
        llama_cpp.llama_memory_seq_rm(self._memory, target, -1, -1)
        llama_cpp.llama_memory_seq_cp(self._memory, source, target, -1, -1)
        return self.keep(target, count)

    # --- saved states -----------------------------------------------------------------------------

    def state_size(self, seq: int) -> int:
        """Return the bytes that `save` would write."""
        return int(llama_cpp.llama_state_seq_get_size(self._context, seq))

    def save(self, seq: int, state: StateBuffer) -> bool:
        """Write what was computed for the tokens of `seq`; return whether it succeeded."""
        data = (ctypes.c_uint8 * len(state)).from_buffer(state)
        return bool(llama_cpp.llama_state_seq_get_data(self._context, data, len(state), seq))

    def restore(self, seq: int, state: StateBuffer, size: int) -> bool:
        """Make `seq` hold the tokens of a saved state; if it fails, `seq` holds none.

        The state must be one that a context of the same model and parameters wrote: llama.cpp may end the
        process otherwise.
        """
        llama_cpp.llama_memory_seq_rm(self._memory, seq, -1, -1)
        data = (ctypes.c_uint8 * size).from_buffer(state)
        with capture_log():
            if llama_cpp.llama_state_seq_set_data(self._context, data, size, seq):
                return True
        llama_cpp.llama_memory_seq_rm(self._memory, seq, -1, -1)
        return False

    def piece(self, token: int) -> bytes:
        """Return the bytes of `token`; empty for a control token, unless `write_out` named it."""
        known = self._pieces.get(token)
        if known is None:
            known = self._pieces[token] = self._read_piece(token, special=False)
        return known

    def ends_answer(self, token: int) -> bool:
        """Return whether `token` ends the model's turn."""
        return bool(llama_cpp.llama_vocab_is_eog(self._vocabulary, token))

    # --- text --------------------------------------------------------------------------------------

    def tokenize(self, *pieces: str) -> tuple[int, ...]:
        """Return the tokens of a rendered prompt, with control tokens and exactly one beginning token.

        No token spans two pieces. May be called from any thread.
        """
        tokens = [token for index, piece in enumerate(pieces) for token in self._tokens(piece, index > 0)]
        first = llama_cpp.llama_vocab_bos(self._vocabulary)
        if llama_cpp.llama_vocab_get_add_bos(self._vocabulary) and tokens[:1] != [first]:
            tokens.insert(0, first)
        return tuple(tokens)

    def _tokens(self, text: str, continued: bool) -> list[int]:
        """Return the tokens of a piece; if `continued`, without the space that some tokenizers insert."""
        if not continued:
            return self._read_text(text)
        tokens, prefix = self._read_text(_LINE_BREAK + text), self._read_text(_LINE_BREAK)
        return tokens[len(prefix) :] if tokens[: len(prefix)] == prefix else self._read_text(text)

    def _read_text(self, text: str, *, begin: bool = False, special: bool = True) -> list[int]:
        encoded = text.encode()
        room = len(encoded) + 8
        while True:
            tokens = (llama_cpp.llama_token * room)()
            count = llama_cpp.llama_tokenize(
                self._vocabulary, encoded, len(encoded), tokens, room, begin, special
            )
            if count >= 0:
                return list(tokens[:count])
            room = -count

    def plain_tokens(self, text: str, *, begin: bool) -> tuple[int, ...]:
        """Return the tokens of `text`, in which texts of control tokens are ordinary text.

        With `begin`, add the tokens that begin a prompt. May be called from any thread.
        """
        return tuple(self._read_text(text, begin=begin, special=False))

    def whole_piece(self, token: int) -> bytes:
        """Return the bytes of `token`, also of a control token. May be called from any thread."""
        return self._read_piece(token, special=True)

    @property
    def chat_template(self) -> str:
        """Return the Jinja source of the chat template.

        Raises:
            ModelError: The model has no chat template.

        """
        template = llama_cpp.llama_model_chat_template(self._model, None)
        if not template:
            raise ModelError(
                "the model has no chat template: a base model continues text, but does not answer",
                advice="use the instruction-tuned (chat, instruct, it) variant of the model",
            )
        return str(template.decode(errors="replace"))

    @property
    def bos(self) -> str:
        """Return the text of the beginning-of-text token; empty if there is none."""
        return self._special_text(llama_cpp.llama_vocab_bos(self._vocabulary))

    @property
    def eos(self) -> str:
        """Return the text of the end-of-text token; empty if there is none."""
        return self._special_text(llama_cpp.llama_vocab_eos(self._vocabulary))

    def control_texts(self) -> Iterable[str]:
        """Return the texts of all control tokens."""
        return self._texts_of(llama_cpp.LLAMA_TOKEN_ATTR_CONTROL | llama_cpp.LLAMA_TOKEN_ATTR_UNKNOWN)

    def added_texts(self) -> Iterable[str]:
        """Return the texts of all added tokens: recognised whole like control tokens, but readable text."""
        return self._texts_of(llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED)

    def write_out(self, texts: Iterable[str]) -> None:
        """Make `piece` return the text of these control tokens, too."""
        for text in texts:
            tokens = self._read_text(text)
            if len(tokens) == 1 and llama_cpp.llama_vocab_is_control(self._vocabulary, tokens[0]):
                self._pieces[tokens[0]] = text.encode()

    def _texts_of(self, attributes: int) -> Iterator[str]:
        for token in range(self.vocabulary_size):
            if llama_cpp.llama_vocab_get_attr(self._vocabulary, token) & attributes:
                yield self._special_text(token)

    def _special_text(self, token: int) -> str:
        return "" if token < 0 else self._read_piece(token, special=True).decode(errors="replace")

    def _read_piece(self, token: int, *, special: bool) -> bytes:
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            length = llama_cpp.llama_token_to_piece(self._vocabulary, token, buffer, size, 0, special)
            if length >= 0:
                return buffer.raw[:length]
            size = -length


def _model_parameters(n_gpu_layers: int | Literal["all"]) -> Any:
    parameters = llama_cpp.llama_model_default_params()
    # llama.cpp's default is all layers on any host that has a GPU.
    parameters.n_gpu_layers = -1 if n_gpu_layers == "all" else n_gpu_layers
    return parameters
