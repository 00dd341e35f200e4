"""The tool that prunes a model: the weights of smallest magnitude become zero, tensor by tensor.

Only the matrices of attention and feed-forward are pruned. Embeddings, norms, biases, routers of experts and
the output keep all weights: they are few or sensitive.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from clawd_runtime.engine.llama.quantise import check_space, convert
from clawd_runtime.engine.llama.tensors import BF16, F16, F32, GgufTensor, tensors_of, values_of
from clawd_runtime.engine.model_tools.arguments import ToolArguments
from clawd_runtime.engine.model_tools.output import ProgressLines
from clawd_runtime.errors import ModelError
from clawd_runtime.progress import ReportFraction

PRUNED = re.compile(
    r"blk\.\d+\.(attn_(q|k|v|qkv|output|q_a|q_b|kv_a_mqa|kv_b|k_b|v_b)"
    r"|ffn_(up|gate|down)(_exps|_shexp|_chexps)?|ffn_gate_up_exps)\.weight"
)
"""Names of the tensors that are pruned."""
_NOT_SIGN = {F32: (np.uint32, 0x7FFFFFFF), F16: (np.uint16, 0x7FFF), BF16: (np.uint16, 0x7FFF)}
"""The bits of a number without its sign: as integers they are in the order of its magnitude."""


class Pruning(ToolArguments):
    """Prune `share` (0…1) of the weights of `source`, and write it, quantised to `kind`, to `destination`.

    `work` is a file that is needed meanwhile. Both are incomplete after an error. With `convert_first` the
    source is quantised, and its weights become 16-bit numbers before they are pruned.
    """

    source: Path
    destination: Path
    work: Path
    kind: str
    share: Annotated[float, Field(gt=0, lt=1)]
    convert_first: bool = False

    def run(self, progress: ProgressLines) -> dict[str, Any]:
        """Prune and quantise the model. Raises `ModelError`."""
        try:
            if self.convert_first:
                progress.step("converting to F16")
                convert(self.source, self.work, "f16", threads=self.threads, report=progress)
            else:
                progress.step("copying")
                check_space(self.work, self.source.stat().st_size)
                shutil.copyfile(self.source, self.work)
            progress.step(f"pruning {self.share:.0%} of the weights")
            before, pruned, elements, count = prune(self.work, self.share, progress)
            progress.step(f"quantising to {self.kind.upper()}")
            made = convert(self.work, self.destination, self.kind, threads=self.threads, report=progress)
        finally:
            self.work.unlink(missing_ok=True)
        progress.step("counting zeros")
        return {
            "tensors": made.tensors,
            "fallback": made.fallback,
            "pruned_tensors": count,
            "prunable": elements,
            "zeros_before": before,
            "zeros_pruned": pruned,
            "zeros_written": zeros_in(self.destination, progress),
        }


def prune(path: Path, share: float, report: ReportFraction) -> tuple[int, int, int, int]:
    """Make the smallest weights of the file zero, in place.

    Returns the zeros among the prunable weights before and after, their number, and that of the tensors.

    Raises:
        ModelError: The file has no tensors that can be pruned.

    """
    chosen = [tensor for tensor in tensors_of(path) if is_prunable(tensor)]
    if not chosen:
        raise ModelError(
            f"cannot prune {path}: it has no matrices of attention or feed-forward under known names",
            advice="use a transformer in GGUF",
        )
    before = after = elements = done = 0
    whole = sum(tensor.size for tensor in chosen)
    for tensor in chosen:
        number, mask = _NOT_SIGN[tensor.kind]
        data = np.memmap(path, number, "r+", tensor.offset, (tensor.size // np.dtype(number).itemsize,))
        before += int(np.count_nonzero((data & mask) == 0))
        prune_smallest(data, int(share * data.size), mask)
        after += int(np.count_nonzero((data & mask) == 0))
        elements += data.size
        data.flush()
        done += tensor.size
        report(done / whole)
    return before, after, elements, len(chosen)


def is_prunable(tensor: GgufTensor) -> bool:
    """Return whether a tensor is one of the matrices that are pruned, in numbers of full precision."""
    return tensor.kind in _NOT_SIGN and PRUNED.fullmatch(tensor.name) is not None


def prune_smallest(data: Any, count: int, mask: int) -> None:
    """Make the `count` numbers of smallest magnitude zero; among equal ones, the first."""
    magnitudes = data & data.dtype.type(mask)
    if not count:
        return
    threshold = np.partition(magnitudes, count - 1)[count - 1]
    smaller = magnitudes < threshold
    equal = np.flatnonzero(magnitudes == threshold)[: count - int(np.count_nonzero(smaller))]
    data[smaller] = 0
    data[equal] = 0


def zeros_in(path: Path, report: ReportFraction) -> int:
    """Return the zeros among the prunable weights of a file of any quantisation."""
    chosen = [tensor for tensor in tensors_of(path) if PRUNED.fullmatch(tensor.name)]
    found = done = 0
    whole = sum(tensor.size for tensor in chosen)
    for tensor in chosen:
        data = np.memmap(path, np.uint8, "r", tensor.offset, (tensor.size,))
        found += sum(values.size - int(np.count_nonzero(values)) for values in values_of(data, tensor.kind))
        done += tensor.size
        report(done / whole)
    return found
