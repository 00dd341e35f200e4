"""Pruning of the real model, and how it is displayed."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from inventory.errors import ArtifactError
from inventory.model_files.tensor_types import main_type
from provision.model_tools.evaluation import EvaluationSettings, evaluate
from provision.model_tools.pruning import prune
from provision.model_tools.quantisation import ConversionTarget
from provision.model_tools.worker import ToolWorker
from provision.reporting.model_tools.pruning import show_pruning
from tests import ggufs
from tests.ggufs import Tensor


@pytest.mark.model
def test_pruned_model_has_the_zeros_and_loses_quality_but_no_bytes(
    worker: ToolWorker, real_model: Path, tmp_path: Path
) -> None:
    target = tmp_path / "m.gguf"
    made = prune(real_model, ConversionTarget(target, "Q8_0"), 0.3, worker)
    assert [path.name for path in tmp_path.iterdir()] == ["m.gguf"]
    assert made.pruned_tensors == 210
    assert made.zeros_before < 0.02 * made.prunable
    assert made.zeros_pruned == pytest.approx(0.3 * made.prunable, rel=1e-3)
    assert made.zeros_written >= made.zeros_pruned
    assert main_type(made.quantisation.after.tensor_types) == "Q8_0"
    assert made.quantisation.target_size == made.quantisation.source_size
    output = io.StringIO()
    show_pruning(Console(file=output, width=200), made)
    assert "after pruning 30%   30.0%" in output.getvalue()
    assert "the file is not smaller and no answer is faster" in output.getvalue()
    settings = EvaluationSettings(tokens=512, runs=1)
    _, measured = evaluate([real_model, target], settings, worker)
    assert measured.against_first is not None
    assert measured.against_first.change > 3 * measured.against_first.error


@pytest.mark.model
def test_model_without_known_matrices_is_refused_and_nothing_left(worker: ToolWorker, tmp_path: Path) -> None:
    source = ggufs.write_tensors(tmp_path / "m.gguf", (Tensor("other.weight", 64, 0, 256),))
    with pytest.raises(ArtifactError, match="no matrices of attention or feed-forward"):
        prune(source, ConversionTarget(tmp_path / "p.gguf", "Q8_0"), 0.3, worker)
    assert [path.name for path in tmp_path.iterdir()] == ["m.gguf"]
