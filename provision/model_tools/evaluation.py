"""Measurement of models: quality, speed and memory, each model in a process of its own."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from inventory.errors import ClawdError
from inventory.model_files.gguf import GgufHeader, read_header
from inventory.model_files.tensor_types import main_type
from provision.local.report_progress import ReportProgress, silent
from provision.model_tools.inspection import check_exists
from provision.model_tools.worker import ToolWorker

Language = Literal["en", "zh"]


@dataclass(frozen=True, slots=True)
class EvaluationSettings:
    """What is measured: the text (by default that of the program in `language`), and how often."""

    language: Language = "en"
    text: Path | None = None
    tokens: int = 4096
    runs: int = 3
    threads: int | None = None


@dataclass(frozen=True, slots=True)
class AgainstFirst:
    """A model compared with the first one, place by place of the same text.

    `change` is that of the perplexity (0.05 is 5 % more), `error` its standard error, which is smaller than
    that of either perplexity. `agreement` is the part of the places (0…1) at which both expect the same.
    """

    change: float
    error: float
    agreement: float


@dataclass(frozen=True, slots=True)
class ModelEvaluation:
    """The measurements of one model. Sizes are in bytes, speeds in tokens a second.

    `perplexity_error` is its standard error. `against_first` compares the model with the first one; `None`
    for the first itself, and for another tokenizer.
    """

    path: Path
    main_type: str
    parameters: int
    file_size: int
    tokens: int
    perplexity: float
    perplexity_error: float
    bits_per_byte: float
    against_first: AgainstFirst | None
    right: int
    questions: int
    prompt_speed: float
    generation_speed: float
    memory: int
    load_seconds: float
    threads: int
    variant: str

    def to_json(self) -> dict[str, Any]:
        """Return the measurements as plain data."""
        return asdict(self) | {"path": str(self.path)}


def evaluate(
    files: Sequence[Path],
    settings: EvaluationSettings,
    worker: ToolWorker,
    progress: ReportProgress = silent,
) -> list[ModelEvaluation]:
    """Return the measurements of every file, one after the other; later ones are compared with the first.

    Raises `ClawdError` when a file is no model, before any is measured, or when a measurement fails.
    """
    headers = [_checked(file) for file in files]
    if settings.text is not None and not settings.text.is_file():
        raise ClawdError(f"cannot read the text {settings.text}: there is no such file")
    found: list[ModelEvaluation] = []
    first: Mapping[str, Any] | None = None
    for number, (file, header) in enumerate(zip(files, headers, strict=True), 1):
        name = f"{file.name} ({number} of {len(files)})" if len(files) > 1 else file.name

        def report(what: str, fraction: float | None = None, /, name: str = name) -> None:
            progress(f"{name}: {what}", fraction)

        arguments = {"model": file.resolve()} | _arguments(settings)
        measured = worker.run("evaluate", arguments, what=f"evaluate {file}", progress=report)
        first = first or measured
        found.append(_evaluation(file, header, measured, first))
    return found


def _checked(file: Path) -> GgufHeader:
    check_exists(file)
    header = read_header(file)
    if header.split_count > 1 or header.tensors == 0:
        raise ClawdError(
            f"cannot evaluate {file}: it is no whole model",
            advice="name a model in one file; `llama-gguf-split --merge` joins parts",
        )
    return header


def _arguments(settings: EvaluationSettings) -> dict[str, Any]:
    return {
        "language": settings.language,
        "text": None if settings.text is None else str(settings.text.resolve()),
        "tokens": settings.tokens,
        "runs": settings.runs,
        "threads": settings.threads,
    }


def _evaluation(
    file: Path, header: GgufHeader, measured: Mapping[str, Any], first: Mapping[str, Any]
) -> ModelEvaluation:
    is_comparable = measured is not first and measured["tokens_digest"] == first["tokens_digest"]
    return ModelEvaluation(
        path=file,
        main_type=main_type(header.tensor_types),
        parameters=header.parameters,
        file_size=file.stat().st_size,
        tokens=measured["tokens"],
        perplexity=measured["perplexity"],
        perplexity_error=measured["error"],
        bits_per_byte=measured["bits_per_byte"],
        against_first=_against(measured, first) if is_comparable else None,
        right=measured["right"],
        questions=measured["questions"],
        prompt_speed=measured["prompt_speed"],
        generation_speed=measured["generation_speed"],
        memory=measured["memory"],
        load_seconds=measured["load_seconds"],
        threads=measured["threads"],
        variant=measured["variant"],
    )


def _against(measured: Mapping[str, Any], first: Mapping[str, Any]) -> AgainstFirst:
    """Return the comparison of two models that have predicted the same tokens."""
    more = [mine - other for mine, other in zip(measured["losses"], first["losses"], strict=True)]
    same = [mine == other for mine, other in zip(measured["likeliest"], first["likeliest"], strict=True)]
    ratio = math.exp(statistics.fmean(more))
    error = ratio * statistics.stdev(more) / math.sqrt(len(more))
    return AgainstFirst(ratio - 1, error, sum(same) / len(same))
