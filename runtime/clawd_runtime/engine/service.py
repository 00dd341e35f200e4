"""The engine: loads its model and turns chat requests into answers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from clawd_runtime.engine.batching.batcher import Batcher
from clawd_runtime.engine.batching.computer import ChatModel, Opened
from clawd_runtime.engine.http.requests import ChatRequest
from clawd_runtime.engine.metrics import EngineMetrics
from clawd_runtime.engine.prompt.template import ChatTemplate
from clawd_runtime.engine.settings import EngineSettings
from clawd_runtime.engine.values import AnswerJob, Event, Failed, Finished
from clawd_runtime.errors import NotReadyError, RequestError

_log = logging.getLogger("clawd.engine")


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A loaded model with its template and its batcher."""

    model: ChatModel
    template: ChatTemplate
    batcher: Batcher


class AnswerStream:
    """An accepted request: iterate over its events, of which the last is `Finished` or `Failed`.

    It belongs to the event loop in which it is created. Call `cancel` when the client is gone.
    """

    def __init__(self, batcher: Batcher, job: AnswerJob) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._batcher = batcher
        self._ticket = batcher.submit(job, self._put)

    def _put(self, event: Event) -> None:
        """Queue `event` for the event loop; called from the batcher's thread."""
        self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    async def __aiter__(self) -> AsyncIterator[Event]:
        while True:
            event = await self._events.get()
            yield event
            if isinstance(event, Finished | Failed):
                return

    def cancel(self) -> None:
        """Stop computing; do nothing if the answer is complete."""
        self._batcher.cancel(self._ticket)


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
        model.write_out(template.reasoning_marks)
        batcher = Batcher(model, self.metrics, queue=settings.queue, on_fault=self._fault)
        batcher.start()
        self._loaded = LoadedModel(model, template, batcher)
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

    def close(self) -> None:
        """Stop serving, fail the incomplete answers, and free the model's memory."""
        loaded, self._loaded = self._loaded, None
        if loaded is not None:
            loaded.batcher.stop()
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

    async def answer(self, request: ChatRequest) -> AnswerStream:
        """Accept `request`, start computing and return the answer.

        Raises:
            RequestError: The request cannot be accepted; nothing was computed.

        """
        loaded = self._serving(request)
        job = await asyncio.to_thread(self._job, loaded, request)
        return AnswerStream(loaded.batcher, job)

    def _serving(self, request: ChatRequest) -> LoadedModel:
        if self._loaded is None:
            raise NotReadyError("the model is still loading")
        self.check_name(request.model)
        return self._loaded

    def _job(self, loaded: LoadedModel, request: ChatRequest) -> AnswerJob:
        """Return the job for `request`. Without a limit in the request, the answer may fill the context."""
        model, template = loaded.model, loaded.template
        sampling = request.sampling()
        foreign = [token for token, _ in sampling.logit_bias if token >= model.vocabulary_size]
        if foreign:
            raise RequestError(
                f"logit_bias: unknown token {foreign[0]}: the model has {model.vocabulary_size} tokens",
                param="logit_bias",
            )
        options = thinking_options(request, template)
        opening = template.opening(options)
        pieces = template.render(request.conversation(), options)
        size, longest = sum(map(len, pieces)), self.settings.context_size * model.longest_token
        if size > longest:
            # No tokenizer can make this fit, and trying would take long.
            raise RequestError(
                f"messages: {size} characters do not fit the context of {self.settings.context_size} tokens",
                code="context_length_exceeded",
                param="messages",
            )
        prompt = model.tokenize(*pieces)
        room = max(1, self.settings.context_size - len(prompt))
        return AnswerJob(prompt, request.limit() or room, sampling, request.stop, opening)

    def _fault(self, fault: BaseException) -> None:
        self._loaded = None
        self._on_fault(fault)


def thinking_options(request: ChatRequest, template: ChatTemplate) -> dict[str, str | bool]:
    """Return the variables of `template` that set how much the model reasons.

    Raises:
        RequestError: The model's template does not support what the request asks for.

    """
    effort, given = request.reasoning_effort, request.chat_template_kwargs
    thinking = given.enable_thinking if given is not None else None
    if effort == "none":
        thinking = False
    elif effort is not None:
        if not template.knows("reasoning_effort"):
            raise RequestError(
                "reasoning_effort: not supported by this model's chat template",
                code="unsupported_parameter",
                param="reasoning_effort",
            )
        return {"reasoning_effort": effort}
    if thinking is None:
        return {}
    switch = next((name for name in ("enable_thinking", "thinking") if template.knows(name)), None)
    if switch is None:
        param = "reasoning_effort" if effort else "chat_template_kwargs"
        raise RequestError(
            f"{param}: turning reasoning on or off is not supported by this model's chat template",
            code="unsupported_parameter",
            param=param,
        )
    return {switch: thinking}
