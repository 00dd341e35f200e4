"""Quantisation of the real model, and what is refused."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from inventory.errors import ArtifactError, ClawdError
from inventory.model_files.gguf import read_header
from inventory.model_files.tensor_types import main_type
from provision.model_tools.kinds import KINDS
from provision.model_tools.quantisation import (
    ConversionTarget,
    Quantisation,
    default_target,
    quantise,
    requantises,
)
from provision.model_tools.worker import ToolWorker
from provision.reporting.model_tools.quantisation import show_quantisation
from tests import ggufs
from tests.ggufs import Tensor


def shown(made: Quantisation) -> str:
    output = io.StringIO()
    show_quantisation(Console(file=output, width=200), made)
    return output.getvalue()


@pytest.mark.model
def test_model_is_quantised_and_the_result_compared(
    worker: ToolWorker, real_model: Path, tmp_path: Path
) -> None:
    seen: list[float] = []
    made = quantise(
        real_model,
        ConversionTarget(tmp_path / "m.gguf", "Q4_0"),
        worker,
        lambda _, part=None, /: seen.append(part or 0.0),
    )
    assert main_type(made.after.tensor_types) == "Q4_0"
    assert made.target_size == (tmp_path / "m.gguf").stat().st_size < made.source_size
    assert made.after.parameters == made.before.parameters
    assert seen == sorted(seen)
    assert len(seen) > 1
    assert [path.name for path in tmp_path.iterdir()] == ["m.gguf"]
    assert made.to_json()["tensor_types_after"][0]["name"] == "Q4_0"


@pytest.mark.model
def test_tensors_that_fall_back_to_a_larger_type_are_counted(
    worker: ToolWorker, real_model: Path, tmp_path: Path
) -> None:
    """SmolLM2's rows of 576 are no multiple of 256."""
    made = quantise(real_model, ConversionTarget(tmp_path / "m.gguf", "Q4_K_M"), worker)
    assert made.fallback > 100
    assert f"{made.fallback} of 272 tensors have a shape that Q4_K_M does not allow" in shown(made)
    assert "do" not in shown(replace(made, fallback=0)).partition("hint:")[0]


@pytest.mark.model
def test_kinds_are_those_of_the_runtime() -> None:
    from clawd_runtime.engine.llama import quantise as in_the_runtime

    assert tuple(kind.upper() for kind in in_the_runtime.KINDS) == KINDS


@pytest.mark.model
def test_failed_conversion_leaves_nothing(worker: ToolWorker, tmp_path: Path) -> None:
    """A file whose header is right, without the keys that llama.cpp needs."""
    source = ggufs.write_tensors(tmp_path / "m.gguf", (Tensor("w", 64, 0, 256),), tokenizer__chat_template="")
    with pytest.raises(ArtifactError, match=r"cannot quantise .*m\.gguf: "):
        quantise(source, ConversionTarget(tmp_path / "small.gguf", "Q4_0"), worker)
    assert [path.name for path in tmp_path.iterdir()] == ["m.gguf"]


def test_source_is_never_the_target(worker: ToolWorker, tmp_path: Path) -> None:
    source = ggufs.write(tmp_path / "m.gguf", ggufs.TINY)
    link = tmp_path / "link.gguf"
    link.symlink_to(source)
    with pytest.raises(ClawdError, match="it is the source itself"):
        quantise(source, ConversionTarget(link, "Q4_0", replace=True), worker)


def test_adapter_is_refused(worker: ToolWorker, tmp_path: Path) -> None:
    texts = {"general__type": "adapter"}
    source = ggufs.write_tensors(tmp_path / "m.gguf", (Tensor("w", 64, 0, 256),), **texts)
    with pytest.raises(ClawdError, match=r"it is no model \(adapter\)"):
        quantise(source, ConversionTarget(tmp_path / "t.gguf", "Q4_0"), worker)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("qwen2.5-1.5b-f16.gguf", "qwen2.5-1.5b-q4_k_m.gguf"),
        ("Qwen2.5-1.5B.FP16.gguf", "Qwen2.5-1.5B-q4_k_m.gguf"),
        ("m-Q8_0.gguf", "m-q4_k_m.gguf"),
        ("model.gguf", "model-q4_k_m.gguf"),
    ],
)
def test_default_name_has_the_new_quantisation_in_place_of_the_old(source: str, target: str) -> None:
    assert default_target(Path("models", source), "Q4_K_M") == Path("models", target)


@pytest.mark.parametrize(("kind", "size", "known"), [(1, 128, ""), (30, 128, ""), (8, 68, "Q8_0")])
def test_quantised_source_is_recognised(tmp_path: Path, kind: int, size: int, known: str) -> None:
    file = ggufs.write_tensors(tmp_path / "m.gguf", (Tensor("w", 64, kind, size),))
    assert requantises(read_header(file)) == known
