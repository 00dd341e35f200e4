"""Conversion of requests to the answers that the batcher computes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace

from clawd_runtime.engine.batching.computer import ChatModel
from clawd_runtime.engine.grammar.constraint import Grammars
from clawd_runtime.engine.http.completions import CompletionPrompt, CompletionRequest
from clawd_runtime.engine.http.requests import ChatRequest
from clawd_runtime.engine.prompt.template import ChatTemplate
from clawd_runtime.engine.tools.form import (
    GENERIC,
    MOST_FORCED_CALLS,
    as_plain_messages,
    call_grammar,
    form_of,
)
from clawd_runtime.engine.tools.values import Tool
from clawd_runtime.engine.values import AnswerJob, SamplingParameters
from clawd_runtime.errors import RequestError


class JobMaker:
    """A maker of jobs for a loaded model, whose prompts and answers fit `context_size` tokens together."""

    def __init__(
        self, model: ChatModel, template: ChatTemplate, grammars: Grammars, context_size: int
    ) -> None:
        self._model, self._template, self._grammars = model, template, grammars
        self._context_size = context_size

    def chat(self, request: ChatRequest) -> list[AnswerJob]:
        """Return a job for each choice. Without a limit in the request, an answer may fill the context.

        Raises:
            RequestError: The request cannot be served.

        """
        sampling = request.sampling()
        self._check_bias(sampling[0])
        options = thinking_options(request, self._template)
        opening = self._template.opening(options)
        tools = request.callable_tools()
        prompt = self._tokenized(self._rendered(request, options, tools), "messages")
        job = AnswerJob(
            prompt,
            request.limit() or max(1, self._context_size - len(prompt)),
            stop=request.stop,
            opening=opening,
            top_logprobs=request.reported_logprobs(),
            user=request.user or request.safety_identifier or "",
            conversation=conversation_digest(request.prompt_cache_key),
        )
        return self._choices(job, sampling, self._forced_calls(request) or request.answer_grammar())

    def _rendered(
        self, request: ChatRequest, options: dict[str, str | bool], tools: Sequence[Tool]
    ) -> tuple[str, ...]:
        messages = request.conversation()
        if self._template.knows_tools:
            return self._template.render(messages, options, tools)
        return self._template.render(as_plain_messages(messages, tools), options)

    def _forced_calls(self, request: ChatRequest) -> tuple[str, str] | None:
        """Return the grammar of the calls that the request demands."""
        forced = request.forced_tools()
        if not forced:
            return None
        form = form_of(self._template.source) if self._template.knows_tools else GENERIC
        most = MOST_FORCED_CALLS if request.parallel_tool_calls and request.tool_choice == "required" else 1
        return call_grammar(form, forced, most=most), "tools"

    def completion(self, request: CompletionRequest) -> list[AnswerJob]:
        """Return a job for each choice of each prompt.

        Raises:
            RequestError: The request cannot be served.

        """
        sampling = request.sampling()
        self._check_bias(sampling[0])
        grammar = None if request.grammar is None else (request.grammar, "grammar")
        jobs: list[AnswerJob] = []
        try:
            for prompt in request.prompt:
                job = AnswerJob(
                    self.tokens_of(prompt, "prompt"),
                    request.limit(),
                    stop=request.stop,
                    top_logprobs=request.logprobs,
                    plain=True,
                    field="prompt",
                    user=request.user or "",
                )
                jobs += self._choices(job, sampling, grammar)
        except BaseException:
            close_all(jobs)
            raise
        return jobs

    def tokens_of(self, prompt: CompletionPrompt, field: str, *, begin: bool = True) -> tuple[int, ...]:
        """Return the tokens of a text, or check that tokens are the model's.

        Raises:
            RequestError: The text cannot fit the context, or a token is not in the vocabulary.

        """
        if isinstance(prompt, str):
            self._check_length((prompt,), field)
            return self._model.plain_tokens(prompt, begin=begin)
        size = self._model.vocabulary_size
        foreign = next((token for token in prompt if token >= size), None)
        if foreign is not None:
            raise RequestError(f"{field}: unknown token {foreign}: the model has {size} tokens", param=field)
        return prompt

    def text_of(self, tokens: Iterable[int]) -> str:
        """Return the text of tokens, which `tokens_of` has checked."""
        return b"".join(map(self._model.whole_piece, tokens)).decode(errors="replace")

    def _choices(
        self, job: AnswerJob, sampling: Sequence[SamplingParameters], grammar: tuple[str, str] | None
    ) -> list[AnswerJob]:
        """Return the job once for each of `sampling`, each with a constraint of its own."""
        if grammar is None:
            return [replace(job, sampling=each) for each in sampling]
        jobs: list[AnswerJob] = []
        try:
            for each in sampling:
                constraint = self._grammars.constraint(*grammar)
                jobs.append(replace(job, sampling=each, constraint=constraint))
        except BaseException:
            close_all(jobs)
            raise
        return jobs

    def _check_bias(self, sampling: SamplingParameters) -> None:
        size = self._model.vocabulary_size
        foreign = [token for token, _ in sampling.logit_bias if token >= size]
        if foreign:
            raise RequestError(
                f"logit_bias: unknown token {foreign[0]}: the model has {size} tokens", param="logit_bias"
            )

    def _tokenized(self, pieces: Sequence[str], field: str) -> tuple[int, ...]:
        self._check_length(pieces, field)
        return self._model.tokenize(*pieces)

    def _check_length(self, pieces: Sequence[str], field: str) -> None:
        size, longest = sum(map(len, pieces)), self._context_size * self._model.longest_token
        if size > longest:
            # No tokenizer can make this fit, and trying would take long.
            raise RequestError(
                f"{field}: {size} characters do not fit the context of {self._context_size} tokens",
                code="context_length_exceeded",
                param=field,
            )


def close_all(jobs: Sequence[AnswerJob]) -> None:
    """Free what jobs hold that were not submitted."""
    for job in jobs:
        if job.constraint is not None:
            job.constraint.close()


def conversation_digest(name: str | None) -> str:
    """Return a digest of the name of a conversation; empty without one."""
    return hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest() if name else ""


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
