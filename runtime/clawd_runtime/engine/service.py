"""The engine as one thing: loads its model, and turns chat requests into answers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from clawd_runtime.engine.batcher import Batcher
from clawd_runtime.engine.computer import ChatModel, Opened
from clawd_runtime.engine.metrics import EngineMetrics
from clawd_runtime.engine.model import open_model
from clawd_runtime.engine.protocol import ChatRequest
from clawd_runtime.engine.settings import EngineSettings
from clawd_runtime.engine.template import ChatTemplate
from clawd_runtime.engine.values import Event, Failed, Finished, Job
from clawd_runtime.errors import NotReadyError, RequestError

_log = logging.getLogger("clawd.engine")


@dataclass(frozen=True, slots=True)
class Loaded:
    """What serves once the model is loaded."""

    model: ChatModel
    template: ChatTemplate
    batcher: Batcher


class Answer:
    """An accepted request: iterate over its events, of which the last is `Finished` or `Failed`.

    Belongs to the event loop in which it is made. `cancel` it when nobody wants it any more.
    """

    def __init__(self, batcher: Batcher, job: Job) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._batcher = batcher
        self._ticket = batcher.submit(job, self._put)

    def _put(self, event: Event) -> None:
        """Called from the batcher's thread."""
        self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    async def __aiter__(self) -> AsyncIterator[Event]:
        while True:
            event = await self._events.get()
            yield event
            if isinstance(event, Finished | Failed):
                return

    def cancel(self) -> None:
        """Stop computing; harmless when the answer is complete."""
        self._batcher.cancel(self._ticket)


class Engine:
    """One model: before, while and after it serves.

    `on_fault` is called, in any thread, when it cannot go on.
    """

    def __init__(
        self,
        settings: EngineSettings,
        *,
        on_fault: Callable[[BaseException], None],
        open_model: Callable[[EngineSettings], Opened] = open_model,
    ) -> None:
        self.settings = settings
        self.metrics = EngineMetrics()
        self.created = int(time.time())
        self._on_fault = on_fault
        self._open_model = open_model
        self._loaded: Loaded | None = None

    @property
    def ready(self) -> bool:
        """Whether the model is loaded and serves."""
        return self._loaded is not None

    def load(self) -> None:
        """Load the model and begin to serve; takes seconds, to be called once, from a thread of its own.

        Raises:
            ModelError: the model cannot be loaded or used for chat.
        """
        began = time.monotonic()
        settings = self.settings
        opened = self._open_model(settings)
        model = opened.model
        template = ChatTemplate(
            model.chat_template, bos=model.bos, eos=model.eos, control=model.control_texts()
        )
        batcher = Batcher(model, self.metrics, queue=settings.queue, on_fault=self._fault)
        batcher.start()
        self._loaded = Loaded(model, template, batcher)
        seconds = time.monotonic() - began
        self.metrics.load_seconds.set(seconds)
        self.metrics.info.info({"model": settings.model_name, "backend": opened.variant})
        if (offload := opened.offload) is not None:
            self.metrics.gpu_layers.set(offload.gpu_layers)
            self.metrics.layers.set(offload.layers)
            _log.info(
                "%d of %d layers are computed on %s",
                *(offload.gpu_layers, offload.layers, ", ".join(offload.gpus)),
            )
        _log.info(
            "model %s loaded in %.2f s: back end %s, %d threads, %d sequences of %d tokens",
            *(settings.model_name, seconds, opened.variant, opened.threads),
            *(settings.parallel, settings.context_size),
        )

    def close(self) -> None:
        """Stop serving; answers that are not complete fail. Gives back the model's memory."""
        loaded, self._loaded = self._loaded, None
        if loaded is not None:
            loaded.batcher.stop()
            loaded.model.close()

    def stalled(self, seconds: float) -> bool:
        """Whether a loaded model has made no progress for `seconds` though there is work."""
        return self._loaded is not None and self._loaded.batcher.stalled(seconds)

    async def answer(self, request: ChatRequest) -> Answer:
        """Accept `request` and begin to compute.

        Raises:
            RequestError: the request cannot be accepted; nothing was computed then.
        """
        loaded = self._serving(request)
        job = await asyncio.to_thread(self._job, loaded, request)
        return Answer(loaded.batcher, job)

    def _serving(self, request: ChatRequest) -> Loaded:
        if self._loaded is None:
            raise NotReadyError("the model is still being loaded")
        if request.model != self.settings.model_name:
            raise RequestError(
                f"there is no model {request.model!r}; this engine serves {self.settings.model_name!r}",
                status=404,
                code="model_not_found",
                param="model",
            )
        return self._loaded

    def _job(self, loaded: Loaded, request: ChatRequest) -> Job:
        """The job that `request` means. Without a limit of its own an answer may fill the context."""
        messages = [message.message() for message in request.messages]
        prompt = loaded.model.tokenize(loaded.template.render(messages))
        room = max(1, self.settings.context_size - len(prompt))
        return Job(prompt, request.limit() or room, request.sampling(), request.stops())

    def _fault(self, fault: BaseException) -> None:
        self._loaded = None
        self._on_fault(fault)
