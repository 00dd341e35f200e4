"""The tool that measures a model: quality, speed and memory."""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from clawd_runtime.engine.llama.backends import load_backends
from clawd_runtime.engine.llama.cpus import usable_cpus
from clawd_runtime.engine.llama.scoring import ScoringModel
from clawd_runtime.engine.model_tools.arguments import ToolArguments
from clawd_runtime.engine.model_tools.output import ProgressLines
from clawd_runtime.engine.model_tools.quality import WINDOW, right_answers, text_quality
from clawd_runtime.engine.model_tools.questions import QUESTIONS
from clawd_runtime.engine.model_tools.texts import text_in
from clawd_runtime.errors import ModelError

PROMPT = 256
GENERATED = 64
"""Tokens whose speed is measured, each the median of several runs."""
LARGEST_TEXT = 16 << 20


class Evaluating(ToolArguments):
    """Measure `model`: how it predicts `text` (by default that of the program in `language`), and questions.

    `tokens` is the most of the text that is read, `runs` the number of measurements of each speed.
    """

    model: Path
    language: Literal["en", "zh"] = "en"
    text: Path | None = None
    tokens: Annotated[int, Field(ge=WINDOW, le=1_000_000)] = 4096
    runs: Annotated[int, Field(ge=1, le=100)] = 3

    def run(self, progress: ProgressLines) -> dict[str, Any]:
        """Return what was measured. Raises `ModelError`."""
        text = text_in(self.language) if self.text is None else _read(self.text)
        backend = load_backends()
        threads = min(self.threads or usable_cpus(), usable_cpus())
        progress.step("loading")
        started = time.monotonic()
        model = ScoringModel(self.model, context_size=WINDOW, threads=threads)
        try:
            loaded = time.monotonic() - started
            progress.step("measuring the speed")
            speeds = _speeds(model, text_in(self.language), self.runs, progress)
            memory = _memory()
            progress.step("predicting the text")
            quality = text_quality(model, text, self.tokens, progress)
            progress.step("answering questions")
            questions = QUESTIONS[self.language]
            right = right_answers(model, questions, progress)
        finally:
            model.close()
        return {
            **asdict(quality),
            **speeds,
            "memory": memory,
            "load_seconds": loaded,
            "right": right,
            "questions": len(questions),
            "threads": threads,
            "variant": backend.variant,
        }


def _speeds(model: ScoringModel, text: str, runs: int, progress: ProgressLines) -> dict[str, Any]:
    """Return the tokens a second of reading a prompt and of writing an answer. A first run is not counted."""
    tokens = model.tokens(text)
    prompt = [*model.beginning, *(tokens * (PROMPT // len(tokens) + 1))][:PROMPT]
    reading, writing = [], []
    for number in range(runs + 1):
        model.forget()
        begun = time.perf_counter()
        scores = model.feed(prompt, 0)
        read = time.perf_counter()
        for place in range(GENERATED):
            scores = model.feed([int(np.argmax(scores))], PROMPT + place)
        written = time.perf_counter()
        if number:
            reading.append(PROMPT / (read - begun))
            writing.append(GENERATED / (written - read))
        progress((number + 1) / (runs + 1))
    return {
        "prompt_speed": statistics.median(reading),
        "prompt_speeds": reading,
        "generation_speed": statistics.median(writing),
        "generation_speeds": writing,
    }


def _memory() -> int:
    """Return the most bytes of memory that this process had in use, the model's file included."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def _read(path: Path) -> str:
    """Return the text of a file. Raises `ModelError`."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_TEXT + 1)
        if len(data) > LARGEST_TEXT:
            raise ModelError(
                f"cannot read the text {path}: it is larger than {LARGEST_TEXT >> 20} MiB",
                advice="use a part of it",
            )
        return data.decode()
    except OSError as error:
        raise ModelError(
            f"cannot read the text {path}: {error.strerror}", advice="check its path and rights"
        ) from error
    except UnicodeDecodeError as error:
        raise ModelError(
            f"cannot read the text {path}: byte {error.start + 1} is not UTF-8",
            advice="convert it, for example with `iconv -f LATIN1 -t UTF-8`",
        ) from None
