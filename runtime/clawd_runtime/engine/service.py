"""The engine: loads its model and turns chat requests into answers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from clawd_runtime.engine.batching.batcher import Batcher
from clawd_runtime.engine.batching.computer import ChatModel, Opened
from clawd_runtime.engine.embeddings import EmbeddingQueue
from clawd_runtime.engine.grammar.constraint import Grammars
from clawd_runtime.engine.http.completions import (
    CompletionPrompt,
    CompletionRequest,
    DetokenizeRequest,
    EmbeddingRequest,
    TokenizeRequest,
)
from clawd_runtime.engine.http.requests import ChatRequest
from clawd_runtime.engine.jobs import JobMaker, close_all
from clawd_runtime.engine.memory_room import require_room
from clawd_runtime.engine.metrics import EngineMetrics
from clawd_runtime.engine.prompt.template import ChatTemplate
from clawd_runtime.engine.settings import EngineSettings
from clawd_runtime.engine.states.files import StateFiles, StateOrigin
from clawd_runtime.engine.states.store import StateStore
from clawd_runtime.engine.states.values import StateBudget
from clawd_runtime.engine.tools.form import MARKS
from clawd_runtime.engine.values import AnswerJob, Event, Failed, Finished
from clawd_runtime.errors import NotReadyError, RequestError

_log = logging.getLogger("clawd.engine")


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A loaded model with its batcher, its grammars, and what makes jobs of requests."""

    model: ChatModel
    batcher: Batcher
    grammars: Grammars
    jobs: JobMaker
    embeddings: EmbeddingQueue | None


class AnswerEvents:
    """An accepted request with one or several answers: iterate over their events, each with its index.

    The last event of an answer is `Finished` or `Failed`; after a `Failed`, no more events follow.
    It belongs to the event loop in which it is created. Call `cancel` when the client is gone.
    """

    def __init__(self, batcher: Batcher, jobs: Sequence[AnswerJob]) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
        self._batcher = batcher
        self._tickets = batcher.submit_all(
            [(job, partial(self._put, index)) for index, job in enumerate(jobs)]
        )

    def __len__(self) -> int:
        return len(self._tickets)

    def _put(self, index: int, event: Event) -> None:
        """Queue `event` for the event loop; called from the batcher's thread."""
        self._loop.call_soon_threadsafe(self._events.put_nowait, (index, event))

    async def __aiter__(self) -> AsyncIterator[tuple[int, Event]]:
        left = len(self._tickets)
        while left:
            index, event = await self._events.get()
            if isinstance(event, Finished):
                left -= 1
            yield index, event
            if isinstance(event, Failed):
                return

    def cancel(self) -> None:
        """Stop computing; do nothing if the answers are complete."""
        for ticket in self._tickets:
            self._batcher.cancel(ticket)


class Engine:
    """One model, before, while and after it is served.

    `on_fault` is called, from any thread, when an internal error ends the service. `open_model` opens
    the model of these settings, which takes seconds.
    """

    def __init__(
        self,
        settings: EngineSettings,
        *,
        on_fault: Callable[[BaseException], None],
        open_model: Callable[[EngineSettings], Opened],
    ) -> None:
        self.settings = settings
        self.metrics = EngineMetrics()
        self.created = int(time.time())
        self._on_fault = on_fault
        self._open_model = open_model
        self._loaded: LoadedModel | None = None

    @property
    def ready(self) -> bool:
        """Return whether the model is loaded and serves."""
        return self._loaded is not None

    def load(self) -> None:
        """Load the model and start to serve; takes seconds. Call once, from a separate thread.

        Raises:
            ModelError: The model cannot be loaded or used for chat.

        """
        started = time.monotonic()
        settings = self.settings
        require_room(settings.memory_needed)
        opened = self._open_model(settings)
        model = opened.model
        template = ChatTemplate(
            model.chat_template,
            bos=model.bos,
            eos=model.eos,
            control=model.control_texts(),
            added=model.added_texts(),
        )
        if template.trimmed_roles:
            _log.warning(
                "the model's chat template removes white space at the beginning and end of %s messages",
                ", ".join(dict.fromkeys(template.trimmed_roles)),
            )
        model.write_out([*template.reasoning_marks, *MARKS])
        embeddings = None
        if settings.embeddings:
            embeddings = EmbeddingQueue(
                model.open_embedder(), context_size=settings.context_size, most=settings.queue
            )
        batcher = Batcher(
            model,
            self.metrics,
            queue=settings.queue,
            on_fault=self._fault,
            store=self._store(model.state_parameters),
        )
        batcher.start()
        grammars = Grammars(settings.model, most=settings.parallel + settings.queue)
        jobs = JobMaker(model, template, grammars, settings.context_size)
        self._loaded = LoadedModel(model, batcher, grammars, jobs, embeddings)
        seconds = time.monotonic() - started
        self.metrics.load_seconds.set(seconds)
        self.metrics.info.info({"model": settings.model_name, "backend": opened.variant})
        if (offload := opened.offload) is not None:
            self.metrics.gpu_layers.set(offload.gpu_layers)
            self.metrics.layers.set(offload.layers)
            _log.info(
                "offloaded %d of %d layers to %s",
                *(offload.gpu_layers, offload.layers, ", ".join(offload.gpus)),
            )
        _log.info(
            "model %s loaded in %.2f s: back end %s, %d threads, %d sequences of %d tokens",
            *(settings.model_name, seconds, opened.variant, opened.threads),
            *(settings.parallel, settings.context_size),
        )

    def _store(self, parameters: dict[str, object]) -> StateStore:
        states = self.settings.states
        files = None
        if states.folder is not None:
            files = StateFiles(Path(states.folder), StateOrigin(Path(self.settings.model), parameters))
        budget = StateBudget(memory=states.memory, disk=states.disk, age=states.days * 86400)
        return StateStore(budget, self.metrics, files)

    def close(self) -> None:
        """Stop serving, fail the incomplete answers, and free the model's memory."""
        loaded, self._loaded = self._loaded, None
        if loaded is not None:
            loaded.batcher.stop()
            loaded.grammars.close()
            if loaded.embeddings is not None:
                loaded.embeddings.close()
            loaded.model.close()

    def stalled(self, seconds: float) -> bool:
        """Return whether a loaded model has work but has made no progress for `seconds`."""
        return self._loaded is not None and self._loaded.batcher.stalled(seconds)

    def check_name(self, model: str) -> None:
        """Raise `RequestError` unless `model` is the name of the served model.

        Raises:
            RequestError: The name is another one (status 404).

        """
        if model != self.settings.model_name:
            raise RequestError(
                f"unknown model {model[:100]!r}: this engine serves {self.settings.model_name!r}",
                status=404,
                code="model_not_found",
                param="model",
            )

    async def answer(self, request: ChatRequest) -> AnswerEvents:
        """Accept `request`, start computing and return its answers.

        Raises:
            RequestError: The request cannot be accepted; nothing was computed.

        """
        loaded = self._serving(request.model)
        return await self._started(loaded, lambda: loaded.jobs.chat(request))

    async def complete(self, request: CompletionRequest) -> AnswerEvents:
        """Accept `request`, start computing and return its answers, the choices of each prompt together.

        Raises:
            RequestError: The request cannot be accepted; nothing was computed.

        """
        loaded = self._serving(request.model)
        return await self._started(loaded, lambda: loaded.jobs.completion(request))

    async def embed(self, request: EmbeddingRequest) -> tuple[list[Any], int]:
        """Return the embedding of each text as an array of floats, and the number of all tokens.

        Raises:
            RequestError: The request cannot be served.

        """
        loaded = self._serving(request.model)
        if loaded.embeddings is None:
            raise RequestError(
                "this engine does not serve embeddings",
                code="unsupported_endpoint",
                advice="set `embeddings: true` for the model in the inventory",
            )
        texts = await asyncio.to_thread(
            lambda: [loaded.jobs.tokens_of(text, "input") for text in request.input]
        )
        loaded.embeddings.check(texts, request.dimensions)
        return await loaded.embeddings.embed(texts), sum(map(len, texts))

    async def tokens(self, request: TokenizeRequest) -> list[tuple[int, bytes]]:
        """Return the tokens of a text, each with its bytes.

        Raises:
            RequestError: The model is not served, or the text cannot fit its context.

        """
        loaded = self._serving(request.model or self.settings.model_name)

        def read() -> list[tuple[int, bytes]]:
            tokens = loaded.jobs.tokens_of(request.content, "content", begin=bool(request.add_special))
            return [(token, loaded.model.whole_piece(token)) for token in tokens]

        return await asyncio.to_thread(read)

    async def text(self, request: DetokenizeRequest) -> str:
        """Return the text of tokens.

        Raises:
            RequestError: The model is not served, or a token is not in its vocabulary.

        """
        loaded = self._serving(request.model or self.settings.model_name)
        return await asyncio.to_thread(
            lambda: loaded.jobs.text_of(loaded.jobs.tokens_of(tuple(request.tokens), "tokens"))
        )

    def prompt_text(self, prompt: CompletionPrompt) -> str:
        """Return the text of the prompt of an accepted request."""
        if isinstance(prompt, str):
            return prompt
        if self._loaded is None:
            raise NotReadyError("the engine is stopping")
        return self._loaded.jobs.text_of(prompt)

    async def _started(self, loaded: LoadedModel, make: Callable[[], list[AnswerJob]]) -> AnswerEvents:
        jobs = await asyncio.to_thread(make)
        try:
            return AnswerEvents(loaded.batcher, jobs)
        except BaseException:
            close_all(jobs)
            raise

    def _serving(self, model: str) -> LoadedModel:
        if self._loaded is None:
            raise NotReadyError("the model is still loading")
        self.check_name(model)
        return self._loaded

    def _fault(self, fault: BaseException) -> None:
        self._loaded = None
        self._on_fault(fault)
