"""Measurement of the real model and of a smaller quantisation of it, and how it is displayed."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from inventory.errors import ArtifactError, ClawdError
from provision.model_tools.evaluation import AgainstFirst, EvaluationSettings, ModelEvaluation, evaluate
from provision.model_tools.quantisation import ConversionTarget, quantise
from provision.model_tools.worker import ToolWorker
from provision.reporting.model_tools.comparison import show_comparison
from provision.reporting.model_tools.plot import PANELS, plot
from tests import ggufs
from tests.ggufs import Tensor

QUICK = EvaluationSettings(tokens=512, runs=1)
MEASURED = ModelEvaluation(
    path=Path("models/first-f16.gguf"), main_type="F16", parameters=135_000_000, file_size=270_000_000,
    tokens=511, perplexity=20.0, perplexity_error=2.0, bits_per_byte=1.05, against_first=None, right=35,
    questions=40, prompt_speed=400.0, generation_speed=40.5, memory=350 << 20, load_seconds=0.1, threads=2,
    variant="zen4",
)  # fmt: skip
SMALLER = replace(
    MEASURED, path=Path("models/<second>.gguf"), main_type="Q4_0", against_first=AgainstFirst(0.25, 0.01, 0.8)
)  # fmt: skip


def shown(*found: ModelEvaluation) -> str:
    output = io.StringIO()
    show_comparison(Console(file=output, width=200), found)
    return output.getvalue()


@pytest.mark.model
def test_smaller_quantisation_is_measured_as_worse_and_smaller(
    worker: ToolWorker, real_model: Path, tmp_path: Path
) -> None:
    """Q2_K is so coarse that a short text shows it."""
    quantise(real_model, ConversionTarget(tmp_path / "small.gguf", "Q2_K"), worker)
    steps: list[str] = []
    first, second = evaluate(
        [real_model, tmp_path / "small.gguf"], QUICK, worker, lambda what, _=None, /: steps.append(what)
    )
    assert first.against_first is None
    assert second.against_first is not None
    assert second.against_first.change > 3 * second.against_first.error > 0
    assert 0.1 < second.against_first.agreement < 0.95
    assert second.perplexity / first.perplexity - 1 == pytest.approx(second.against_first.change, rel=1e-3)
    assert second.file_size < first.file_size
    assert first.memory > first.file_size
    assert first.right > first.questions * 0.7
    assert min(first.prompt_speed, first.generation_speed) > 0
    assert f"{real_model.name} (1 of 2): predicting the text" in steps
    assert "small.gguf (2 of 2): answering questions" in steps


@pytest.mark.model
def test_own_text_is_predicted_and_a_short_one_refused(
    worker: ToolWorker, real_model: Path, tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("the same words again and again, " * 200)
    (found,) = evaluate([real_model], replace(QUICK, text=text), worker)
    assert found.perplexity < 2
    text.write_text("short")
    with pytest.raises(ArtifactError, match=r"the text has only \d tokens"):
        evaluate([real_model], replace(QUICK, text=text), worker)
    text.write_bytes(b"\xff" * 4000)
    with pytest.raises(ArtifactError, match="byte 1 is not UTF-8"):
        evaluate([real_model], replace(QUICK, text=text), worker)


def test_every_file_is_checked_before_any_is_measured(tmp_path: Path) -> None:
    good = ggufs.write(tmp_path / "m.gguf", ggufs.TINY)
    (tmp_path / "page.gguf").write_text("<html>")
    with pytest.raises(ArtifactError, match="it is a web page"):
        evaluate([good, tmp_path / "page.gguf"], QUICK, ToolWorker((tmp_path / "nothing",)))
    with pytest.raises(ClawdError, match="there is no such file"):
        evaluate([good], replace(QUICK, text=tmp_path / "none"), ToolWorker((tmp_path / "nothing",)))


@pytest.mark.model
def test_model_that_llama_cpp_cannot_load_is_reported(worker: ToolWorker, tmp_path: Path) -> None:
    broken = ggufs.write_tensors(tmp_path / "m.gguf", (Tensor("w", 64, 0, 256),))
    with pytest.raises(ArtifactError, match=r"cannot evaluate .*m\.gguf: llama.cpp cannot load the model"):
        evaluate([broken], QUICK, worker)


def test_table_has_a_column_for_each_model_and_compares_with_the_first() -> None:
    output = shown(MEASURED, SMALLER)
    assert "+25.0% ± 1.0%" in output
    assert "80.0%" in output
    assert "35 of 40" in output
    assert "different tokenizers" not in output


def test_models_of_different_tokenizers_are_compared_by_bytes() -> None:
    assert "compare bits per byte" in shown(MEASURED, replace(SMALLER, tokens=700, against_first=None))


def test_plot_is_svg_with_a_bar_for_each_model_and_measurement() -> None:
    root = ElementTree.fromstring(plot([MEASURED, replace(SMALLER, prompt_speed=100.0)]))
    bars = [bar for bar in root.findall("{*}rect") if bar.get("fill", "").startswith("#")]
    assert len(bars) == 2 * len(PANELS)
    widths = {float(bar.get("width", "")) for bar in bars}
    assert len(widths) == 2
    assert max(widths) == 4 * min(widths)
    assert "<second>" in "".join(text.text or "" for text in root.findall("{*}text"))
