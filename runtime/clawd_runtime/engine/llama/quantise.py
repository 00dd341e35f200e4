"""Conversion of a GGUF file to another quantisation.

Run `python -m clawd_runtime.engine.llama.quantise SOURCE DESTINATION q8_0`.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llama_cpp

from clawd_runtime.engine.llama.backends import load_backends
from clawd_runtime.engine.llama.gguf import check_gguf
from clawd_runtime.engine.llama.log import capture_log
from clawd_runtime.errors import ModelError, RuntimeFault
from clawd_runtime.progress import ReportFraction, ignored

KINDS = {
    "f32": llama_cpp.LLAMA_FTYPE_ALL_F32,
    "f16": llama_cpp.LLAMA_FTYPE_MOSTLY_F16,
    "bf16": llama_cpp.LLAMA_FTYPE_MOSTLY_BF16,
    "q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0,
    "q6_k": llama_cpp.LLAMA_FTYPE_MOSTLY_Q6_K,
    "q5_k_m": llama_cpp.LLAMA_FTYPE_MOSTLY_Q5_K_M,
    "q5_k_s": llama_cpp.LLAMA_FTYPE_MOSTLY_Q5_K_S,
    "q5_1": llama_cpp.LLAMA_FTYPE_MOSTLY_Q5_1,
    "q5_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q5_0,
    "q4_k_m": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M,
    "q4_k_s": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_S,
    "q4_1": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_1,
    "q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0,
    "iq4_nl": llama_cpp.LLAMA_FTYPE_MOSTLY_IQ4_NL,
    "iq4_xs": llama_cpp.LLAMA_FTYPE_MOSTLY_IQ4_XS,
    "q3_k_l": llama_cpp.LLAMA_FTYPE_MOSTLY_Q3_K_L,
    "q3_k_m": llama_cpp.LLAMA_FTYPE_MOSTLY_Q3_K_M,
    "q3_k_s": llama_cpp.LLAMA_FTYPE_MOSTLY_Q3_K_S,
    "q2_k": llama_cpp.LLAMA_FTYPE_MOSTLY_Q2_K,
}
"""All that llama.cpp makes without an importance matrix."""

MARGIN = 64 << 20
"""Bytes of disk space that stay free."""

# What llama_model_quantize logs; no function of the API returns it.
_TENSOR = re.compile(r"^\[\s*(\d+)/\s*(\d+)\]")
_SIZE = re.compile(r"quant size\s*=\s*([\d.]+) MiB")
_FALLBACK = re.compile(r"(\d+) of \d+ tensor\(s\) required fallback quantization")


@dataclass(frozen=True, slots=True)
class Converted:
    """A conversion: the tensors of the model, and those of a shape that `kind` does not allow.

    These got the type that llama.cpp uses in its place.
    """

    tensors: int
    fallback: int
    size: int


def quantise(source: Path, destination: Path, kind: str, *, threads: int | None = None) -> None:
    """Write `source`, requantised to `kind`, to `destination`, which is created only when complete.

    `kind` is a key of `KINDS`; `threads` is `None` for one per CPU.

    Raises:
        ModelError: The source is not a GGUF file, the kind is unknown, or llama.cpp cannot convert it.

    """
    partial = destination.with_name(f"{destination.name}.{os.getpid()}.partial")
    try:
        convert(source, partial, kind, threads=threads)
        partial.replace(destination)
    finally:
        partial.unlink(missing_ok=True)


def convert(
    source: Path,
    destination: Path,
    kind: str,
    *,
    threads: int | None = None,
    report: ReportFraction = ignored,
) -> Converted:
    """Write `source`, quantised to `kind`, to `destination`, which is incomplete after an error.

    Raises:
        ModelError: As `quantise`, or the disk has too little space.

    """
    if kind not in KINDS:
        raise ModelError(f"unknown quantisation {kind!r}", advice=f"use one of {', '.join(KINDS)}")
    check_gguf(source)
    load_backends()
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = KINDS[kind]
    parameters.allow_requantize = True
    parameters.nthread = threads or len(os.sched_getaffinity(0))
    # The trial finds the size, because tensors of some shapes get another type.
    parameters.dry_run = True
    made = _quantised(source, destination, kind, parameters, ignored)
    check_space(destination, made.size)
    parameters.dry_run = False
    return _quantised(source, destination, kind, parameters, report)


def check_space(destination: Path, size: int) -> None:
    """Raise `ModelError` unless the disk of `destination` has room for a file of `size` bytes."""
    free = shutil.disk_usage(destination.parent).free
    if free < size + MARGIN:
        raise ModelError(
            f"cannot write to {destination.parent}: {size >> 20} MiB needed and {MARGIN >> 20} MiB to stay "
            f"free, but only {free >> 20} MiB are free",
            advice="free disk space, or write to another disk",
        )


def _quantised(
    source: Path, destination: Path, kind: str, parameters: Any, report: ReportFraction
) -> Converted:
    found = {"tensors": 0, "fallback": 0, "size": 0}

    def read(line: str) -> None:
        if match := _TENSOR.match(line):
            found["tensors"] = int(match[2])
            report((int(match[1]) - 1) / max(int(match[2]), 1))
        elif match := _SIZE.search(line):
            found["size"] = int(float(match[1]) * (1 << 20))
        elif match := _FALLBACK.search(line):
            found["fallback"] = int(match[1])

    with capture_log(read) as complaints:
        failed = llama_cpp.llama_model_quantize(
            os.fsencode(source), os.fsencode(destination), ctypes.byref(parameters)
        )
    if failed:
        raise ModelError(f"cannot convert {source} to {kind}: {complaints.text() or f'code {failed}'}")
    return Converted(**found)


def main(arguments: list[str]) -> int:
    """Run the command line and return the exit code."""
    if len(arguments) != 3:
        print("usage: python -m clawd_runtime.engine.llama.quantise SOURCE DESTINATION KIND", file=sys.stderr)
        return 2
    source, destination, kind = arguments
    try:
        quantise(Path(source), Path(destination), kind)
    except RuntimeFault as fault:
        print(fault, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
