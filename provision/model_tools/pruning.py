"""Pruning of a model's file: the weights of smallest magnitude become zero, then it is quantised."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inventory.errors import ClawdError
from inventory.model_files.gguf import GgufHeader
from provision.local.report_progress import ReportProgress, silent
from provision.model_tools.quantisation import (
    ConversionTarget,
    Quantisation,
    converted,
    requantises,
)
from provision.model_tools.worker import ToolWorker

HONEST = (
    "llama.cpp computes with zeros as with any other weight, and stores them: the file is not smaller and no "
    "answer is faster than without pruning"
)
"""What unstructured pruning does not bring."""


@dataclass(frozen=True, slots=True)
class PrunedModel:
    """A pruned model.

    `prunable` is the number of weights in the `pruned_tensors`, and `zeros_*` those that are zero: before,
    after pruning, and in the written file, whose quantisation rounds further ones to zero, or zeros away.
    """

    quantisation: Quantisation
    share: float
    pruned_tensors: int
    prunable: int
    zeros_before: int
    zeros_pruned: int
    zeros_written: int

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain data."""
        return self.quantisation.to_json() | {
            "share": self.share,
            "pruned_tensors": self.pruned_tensors,
            "prunable": self.prunable,
            "zeros_before": self.zeros_before,
            "zeros_pruned": self.zeros_pruned,
            "zeros_written": self.zeros_written,
            "note": HONEST,
        }


def prune(
    source: Path,
    target: ConversionTarget,
    share: float,
    worker: ToolWorker,
    progress: ReportProgress = silent,
) -> PrunedModel:
    """Write `source` with `share` (0…1) of its weights pruned, quantised, and return the result.

    Raises `ClawdError` when the source cannot be read, the target exists, or the tool fails.
    """
    if not 0 < share < 1:
        raise ClawdError(f"cannot prune {share} of the weights: not in the range 0 to 1", advice="pass 0.3")

    def write(partial: Path, before: GgufHeader) -> dict[str, Any]:
        work = partial.with_name(f"{partial.name}.work")
        arguments = {
            "source": source,
            "destination": partial,
            "work": work,
            "kind": target.kind.lower(),
            "share": share,
            "convert_first": bool(requantises(before)),
        }
        try:
            return worker.run("prune", arguments, what=f"prune {source}", progress=progress)
        finally:
            work.unlink(missing_ok=True)

    done, made = converted(source, target, write)
    counts = ("pruned_tensors", "prunable", "zeros_before", "zeros_pruned", "zeros_written")
    return PrunedModel(done, share, *(int(made[name]) for name in counts))
