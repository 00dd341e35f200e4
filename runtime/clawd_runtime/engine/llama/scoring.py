"""Probabilities that a model gives to texts, and the time that it takes, for comparing models."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

from clawd_runtime.engine.llama.gguf import check_gguf
from clawd_runtime.engine.llama.log import capture_log
from clawd_runtime.errors import EngineError, ModelError

STEP = 256
"""Most tokens of a step, as in the engine."""
SCORED_STEP = 64
"""Most tokens of a step that computes the probabilities after each: they take memory."""


class ScoringModel:
    """A loaded model with one context of `context_size` tokens, computed on processors."""

    def __init__(self, path: Path, *, context_size: int, threads: int) -> None:
        """Load the model. The back ends must be loaded already.

        Raises:
            ModelError: The file is damaged or of an unsupported kind, or memory is short.

        """
        check_gguf(path)
        of_model = llama_cpp.llama_model_default_params()
        of_model.n_gpu_layers = 0
        of_context = llama_cpp.llama_context_default_params()
        of_context.n_ctx = context_size
        of_context.n_seq_max = 1
        of_context.n_batch = of_context.n_ubatch = STEP
        of_context.n_outputs_max = of_context.n_outputs_max_per_seq = SCORED_STEP
        of_context.n_threads = of_context.n_threads_batch = threads
        of_context.no_perf = True
        with capture_log() as complaints:
            self._model: Any = llama_cpp.llama_model_load_from_file(os.fsencode(path), of_model)
            if not self._model:
                raise ModelError(
                    f"llama.cpp cannot load the model {path}: {complaints.text() or 'no reason given'}",
                    advice="the file is damaged or of an unsupported kind: replace it with the right one",
                )
            self._context: Any = llama_cpp.llama_init_from_model(self._model, of_context)
            if not self._context:
                raise ModelError(
                    f"cannot allocate a context of {context_size} tokens: {complaints.text()}",
                    advice="use a machine with more memory",
                )
        self._memory: Any = llama_cpp.llama_get_memory(self._context)
        self._vocabulary: Any = llama_cpp.llama_model_get_vocab(self._model)
        self._batch: Any = llama_cpp.llama_batch_init(STEP, 0, 1)
        self._size = int(llama_cpp.llama_vocab_n_tokens(self._vocabulary))

    def close(self) -> None:
        """Free all memory; the model must not be used afterwards."""
        llama_cpp.llama_batch_free(self._batch)
        llama_cpp.llama_free(self._context)
        llama_cpp.llama_model_free(self._model)

    @property
    def beginning(self) -> tuple[int, ...]:
        """Return the token that begins every text of this model, if there is one."""
        if not llama_cpp.llama_vocab_get_add_bos(self._vocabulary):
            return ()
        return (int(llama_cpp.llama_vocab_bos(self._vocabulary)),)

    def tokens(self, text: str) -> list[int]:
        """Return the tokens of a text, without the token that begins it."""
        data = text.encode()
        found = (llama_cpp.llama_token * (len(data) + 8))()
        count = llama_cpp.llama_tokenize(self._vocabulary, data, len(data), found, len(found), False, False)
        if count < 0:
            raise EngineError("the tokenizer needs more tokens than the text has bytes")
        return list(found[:count])

    def length(self, token: int) -> int:
        """Return the number of bytes of a token's text."""
        buffer = ctypes.create_string_buffer(256)
        return abs(int(llama_cpp.llama_token_to_piece(self._vocabulary, token, buffer, 256, 0, True)))

    def forget(self, kept: int = 0) -> int:
        """Forget all but the first `kept` tokens and return how many are kept; some models keep none."""
        if llama_cpp.llama_memory_seq_rm(self._memory, 0, kept, -1):
            return kept
        llama_cpp.llama_memory_clear(self._memory, True)
        return 0

    def feed(self, tokens: Sequence[int], position: int) -> Any:
        """Compute tokens from `position` on and return the scores of all tokens after the last one."""
        row = None
        for start in range(0, len(tokens), STEP):
            part = tokens[start : start + STEP]
            self._step(part, position + start, scored=False)
            row = self._scores(len(part) - 1)
        return row

    def feed_scored(self, tokens: Sequence[int], position: int) -> Iterator[Any]:
        """Compute tokens from `position` on and return the scores after each, one part of them a time."""
        for start in range(0, len(tokens), SCORED_STEP):
            part = tokens[start : start + SCORED_STEP]
            self._step(part, position + start, scored=True)
            yield np.stack([self._scores(row) for row in range(len(part))])

    def _scores(self, row: int) -> Any:
        """Return a copy of the scores after a token of the last step."""
        found = llama_cpp.llama_get_logits_ith(self._context, row)
        return np.array(np.ctypeslib.as_array(found, shape=(self._size,)))

    def _step(self, tokens: Sequence[int], position: int, *, scored: bool) -> None:
        batch = self._batch
        for row, token in enumerate(tokens):
            batch.token[row] = token
            batch.pos[row] = position + row
            batch.n_seq_id[row] = 1
            batch.seq_id[row][0] = 0
            batch.logits[row] = scored or row == len(tokens) - 1
        batch.n_tokens = len(tokens)
        with capture_log() as complaints:
            code = llama_cpp.llama_decode(self._context, batch)
        if code != 0:
            raise EngineError(
                f"llama_decode failed with code {code}: {complaints.text() or 'no reason given'}"
            )
