"""Embeddings of texts, computed in a context of their own next to the batch."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import llama_cpp
import numpy as np

from clawd_runtime.engine.llama.log import capture_log
from clawd_runtime.errors import EngineError, ModelError

_CHUNK = 64  # tokens of one step: the memory of a step grows with it
_FIRST, _LAST = llama_cpp.LLAMA_POOLING_TYPE_CLS, llama_cpp.LLAMA_POOLING_TYPE_LAST


class LlamaEmbedder:
    """A context that computes embeddings with the weights of `model`, one text at a time.

    A text's embedding is what the model's file declares (first or last token), else the mean of its tokens.
    """

    def __init__(self, model: Any, *, context_size: int) -> None:
        """Create the context.

        Raises:
            ModelError: There is not enough memory.

        """
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = context_size
        parameters.n_seq_max = 1
        parameters.n_batch = parameters.n_ubatch = _CHUNK
        # The batch has the other processors.
        parameters.n_threads = parameters.n_threads_batch = 1
        parameters.embeddings = True
        parameters.pooling_type = llama_cpp.LLAMA_POOLING_TYPE_NONE
        parameters.no_perf = True
        with capture_log() as complaints:
            self._context: Any = llama_cpp.llama_init_from_model(model, parameters)
        if not self._context:
            raise ModelError(
                f"cannot allocate the context for embeddings: {complaints.text()}",
                advice="lower context_size, or turn embeddings off",
            )
        self.dimensions = int(llama_cpp.llama_model_n_embd(model))
        self._pooling = _declared_pooling(model)
        self._batch: Any = llama_cpp.llama_batch_init(_CHUNK, 0, 1)
        self._lock = threading.Lock()
        self._closed = False

    def embed(self, tokens: Sequence[int]) -> Any:
        """Return the embedding of a text as an array of 32-bit floats of length 1. Takes up to seconds.

        Raises:
            EngineError: llama.cpp failed.

        """
        with self._lock:
            if self._closed:
                raise EngineError("the engine is stopping")
            llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), False)
            total = np.zeros(self.dimensions)
            for start in range(0, len(tokens), _CHUNK):
                rows = self._computed(tokens[start : start + _CHUNK], start)
                if self._pooling == _FIRST:
                    total = rows[0] if start == 0 else total
                elif self._pooling == _LAST:
                    total = rows[-1]
                else:
                    total = total + rows.sum(axis=0)
        length = float(np.linalg.norm(total))
        if not np.isfinite(length) or not length:
            raise EngineError("the model has computed an embedding that is not a number")
        return (total / length).astype(np.float32)

    def _computed(self, tokens: Sequence[int], position: int) -> Any:
        batch = self._batch
        for row, token in enumerate(tokens):
            batch.token[row] = token
            batch.pos[row] = position + row
            batch.n_seq_id[row] = 1
            batch.seq_id[row][0] = 0
            batch.logits[row] = True
        batch.n_tokens = len(tokens)
        with capture_log() as complaints:
            code = llama_cpp.llama_decode(self._context, batch)
        if code != 0:
            raise EngineError(
                f"llama_decode failed with code {code}: {complaints.text() or 'no reason given'}"
            )
        rows = [llama_cpp.llama_get_embeddings_ith(self._context, row) for row in range(len(tokens))]
        return np.array([np.ctypeslib.as_array(row, shape=(self.dimensions,)) for row in rows], float)

    def close(self) -> None:
        """Free the context; wait for a text that is being computed."""
        with self._lock:
            self._closed = True
            llama_cpp.llama_batch_free(self._batch)
            llama_cpp.llama_free(self._context)


def _declared_pooling(model: Any) -> int:
    """Return the pooling that the model's file declares; -1 if it declares none."""
    buffer = llama_cpp.ctypes.create_string_buffer(64)
    if llama_cpp.llama_model_meta_val_str(model, b"general.architecture", buffer, 64) < 0:
        return -1
    key = buffer.value + b".pooling_type"
    if llama_cpp.llama_model_meta_val_str(model, key, buffer, 64) < 0 or not buffer.value.isdigit():
        return -1
    return int(buffer.value)
