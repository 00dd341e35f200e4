"""Quantisation of a model's file with llama.cpp."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from inventory.errors import ClawdError
from inventory.model_files.gguf import GgufHeader, read_header
from inventory.model_files.tensor_types import is_quantised, main_type
from provision.local.report_progress import ReportProgress, silent
from provision.model_tools.inspection import check_exists
from provision.model_tools.kinds import KINDS
from provision.model_tools.output_file import written
from provision.model_tools.safetensors import Converter
from provision.model_tools.worker import ToolWorker

_AT_END = re.compile(rf"[-_.](?:{'|'.join(KINDS)}|FP32|FP16)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ConversionTarget:
    """The file to write, its quantisation, and whether an existing file is replaced."""

    path: Path
    kind: str
    replace: bool = False


@dataclass(frozen=True, slots=True)
class Quantisation:
    """A file before and after its quantisation. Sizes are in bytes.

    `fallback` is the number of tensors whose shape `kind` does not allow: llama.cpp gave them a larger type.
    """

    source: Path
    target: Path
    kind: str
    before: GgufHeader
    after: GgufHeader
    source_size: int
    target_size: int
    fallback: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the quantisation as plain data."""
        return {
            "source": str(self.source),
            "target": str(self.target),
            "kind": self.kind,
            "source_size": self.source_size,
            "target_size": self.target_size,
            "tensor_types_before": [asdict(share) for share in self.before.tensor_types],
            "tensor_types_after": [asdict(share) for share in self.after.tensor_types],
            "fallback_tensors": self.fallback,
            "seconds": round(self.seconds, 1),
        }


def default_target(source: Path, kind: str, mark: str = "") -> Path:
    """Return the path next to `source` with `kind` in its name in place of the source's own quantisation."""
    if source.is_dir():
        source = source.resolve()
    name = _AT_END.sub("", source.name.removesuffix(".gguf"))
    return source.with_name(f"{name}{mark}-{kind.lower()}.gguf")


def quantise(
    source: Path,
    target: ConversionTarget,
    worker: ToolWorker,
    progress: ReportProgress = silent,
) -> Quantisation:
    """Write `source` in another quantisation to `target` and return what changed.

    Raises `ClawdError` when the source cannot be read, the target exists, or the conversion fails.
    """

    def write(partial: Path, _: GgufHeader) -> dict[str, Any]:
        arguments = {"source": source, "destination": partial, "kind": target.kind.lower()}
        return worker.run("quantise", arguments, what=f"quantise {source}", progress=progress)

    return converted(source, target, write)[0]


def converted(
    source: Path, target: ConversionTarget, write: Callable[[Path, GgufHeader], dict[str, Any]]
) -> tuple[Quantisation, dict[str, Any]]:
    """Check `source`, have `write` make the file, and return what changed and the result of `write`.

    `write` gets the path of the unfinished file, and the header of the source. Raises `ClawdError` when the
    source cannot be read or the target exists.
    """
    check_exists(source)
    check_other(source, target.path)
    before = read_header(source)
    check_quantisable(source, before)
    started = time.monotonic()
    with written(target.path, replace=target.replace) as partial:
        made = write(partial, before)
        after = read_header(partial)
        size = partial.stat().st_size
    sizes = (source.stat().st_size, size)
    seconds = time.monotonic() - started
    fallback = int(made["fallback"])
    return Quantisation(source, target.path, target.kind, before, after, *sizes, fallback, seconds), made


def quantise_folder(
    folder: Path,
    target: ConversionTarget,
    worker: ToolWorker,
    converter: Converter,
    progress: ReportProgress = silent,
) -> Quantisation:
    """Convert a folder of safetensors to GGUF and write it, quantised, to `target`.

    Raises `ClawdError` as `quantise`, and when the conversion fails.
    """
    whole = target.path.parent / f".{target.path.name}.{os.getpid()}.partial.whole"
    started = time.monotonic()
    try:
        with written(target.path, replace=target.replace) as partial:
            converter.convert(folder, whole, progress)
            made = quantise(whole, replace(target, path=partial), worker, progress)
    finally:
        whole.unlink(missing_ok=True)
    return replace(made, source=folder, target=target.path, seconds=time.monotonic() - started)


def check_other(source: Path, target: Path) -> None:
    """Raise `ClawdError` when a tool would write over its own source."""
    if target.exists() and source.samefile(target):
        raise ClawdError(f"cannot write {target}: it is the source itself", advice="name another --output")


def check_quantisable(source: Path, header: GgufHeader) -> None:
    """Raise `ClawdError` for a file that is no whole model."""
    if header.split_count > 1:
        raise ClawdError(
            f"cannot quantise {source}: it is one of {header.split_count} parts",
            advice="join them into one file with `llama-gguf-split --merge`",
        )
    if header.tensors == 0 or header.kind in ("adapter", "lora", "controlvector", "imatrix", "mmproj"):
        raise ClawdError(
            f"cannot quantise {source}: it is no model ({header.kind or 'only a vocabulary'})",
            advice="name the GGUF file of the model itself",
        )


def requantises(header: GgufHeader) -> str:
    """Return the quantisation that the weights have already; empty when they have full precision."""
    return main_type(header.tensor_types) if is_quantised(header.tensor_types) else ""
