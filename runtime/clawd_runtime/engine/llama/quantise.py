"""Conversion of a GGUF file to another quantisation.

Run `python -m clawd_runtime.engine.llama.quantise SOURCE DESTINATION q8_0`.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

import llama_cpp

from clawd_runtime.engine.llama.backends import load_backends
from clawd_runtime.engine.llama.gguf import check_gguf
from clawd_runtime.engine.llama.log import capture_log
from clawd_runtime.errors import ModelError, RuntimeFault

KINDS = {
    "f16": llama_cpp.LLAMA_FTYPE_MOSTLY_F16,
    "q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0,
    "q4_k_m": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M,
    "q5_k_m": llama_cpp.LLAMA_FTYPE_MOSTLY_Q5_K_M,
    "q6_k": llama_cpp.LLAMA_FTYPE_MOSTLY_Q6_K,
    "q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0,
}


def quantise(source: Path, destination: Path, kind: str, *, threads: int | None = None) -> None:
    """Write `source`, requantised to `kind`, to `destination`, which is created only when complete.

    `kind` is a key of `KINDS`; `threads` is `None` for one per CPU.

    Raises:
        ModelError: The source is not a GGUF file, the kind is unknown, or llama.cpp cannot convert it.

    """
    if kind not in KINDS:
        raise ModelError(f"unknown quantisation {kind!r}", advice=f"use one of {', '.join(KINDS)}")
    check_gguf(source)
    load_backends()
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = KINDS[kind]
    parameters.allow_requantize = True
    parameters.nthread = threads or len(os.sched_getaffinity(0))
    partial = destination.with_name(f"{destination.name}.{os.getpid()}.partial")
    try:
        with capture_log() as complaints:
            failed = llama_cpp.llama_model_quantize(
                os.fsencode(source), os.fsencode(partial), ctypes.byref(parameters)
            )
        if failed:
            raise ModelError(f"cannot convert {source} to {kind}: {complaints.text() or f'code {failed}'}")
        partial.replace(destination)
    finally:
        partial.unlink(missing_ok=True)


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
