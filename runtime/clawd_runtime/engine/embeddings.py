"""Embedding of the texts of requests, one text at a time, next to the batch."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from clawd_runtime.engine.batching.computer import Embedder
from clawd_runtime.errors import BusyError, NotReadyError, RequestError


class EmbeddingQueue:
    """The requests for embeddings that wait for `embedder`, at most `most` of them.

    It belongs to the event loop.
    """

    def __init__(self, embedder: Embedder, *, context_size: int, most: int) -> None:
        self._embedder, self._context_size, self._most = embedder, context_size, most
        self._waiting = 0
        self._turn = asyncio.Lock()
        self._closed = False

    def check(self, texts: Sequence[Sequence[int]], dimensions: int | None) -> None:
        """Raise `RequestError` unless these texts can be embedded.

        Raises:
            RequestError: A text is empty or too long, or the model has another number of dimensions.

        """
        if dimensions not in (None, self._embedder.dimensions):
            raise RequestError(
                f"dimensions: must be {self._embedder.dimensions}, as the model has them", param="dimensions"
            )
        for index, tokens in enumerate(texts):
            if not tokens:
                raise RequestError(f"input[{index}]: empty", param="input")
            if len(tokens) > self._context_size:
                raise RequestError(
                    f"input[{index}]: {len(tokens)} tokens, at most {self._context_size} fit the context",
                    code="context_length_exceeded",
                    param="input",
                )

    async def embed(self, texts: Sequence[Sequence[int]]) -> list[Any]:
        """Return the embedding of each text. Can be cancelled between two texts.

        Raises:
            BusyError: Too many requests wait.
            EngineError: The model failed.

        """
        if self._waiting > self._most:
            raise BusyError("engine busy: too many requests for embeddings wait", retry_after=2)
        self._waiting += 1
        try:
            found = []
            for tokens in texts:
                async with self._turn:
                    if self._closed:
                        raise NotReadyError("the engine is stopping")
                    found.append(await asyncio.to_thread(self._embedder.embed, tokens))
            return found
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Refuse further texts and free the embedder's memory; may be called from any thread."""
        self._closed = True
        self._embedder.close()
