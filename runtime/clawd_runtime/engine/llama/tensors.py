"""The tensors of a GGUF file, through the reader of the ggml that llama-cpp-python bundles.

API: gguf.h and ggml.h.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

from clawd_runtime.errors import ModelError

F32, F16, BF16 = 0, 1, 30


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """A tensor: its place in the file and its size in bytes, and the number of its type."""

    name: str
    kind: int
    offset: int
    size: int


class _Traits(ctypes.Structure):
    """`ggml_type_traits`."""

    _fields_ = (
        ("type_name", ctypes.c_char_p),
        ("blck_size", ctypes.c_int64),
        ("blck_size_interleave", ctypes.c_int64),
        ("type_size", ctypes.c_size_t),
        ("is_quantized", ctypes.c_bool),
        ("to_float", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)),
    )


class _InitParameters(ctypes.Structure):
    """`gguf_init_params`."""

    _fields_ = (("no_alloc", ctypes.c_bool), ("ctx", ctypes.c_void_p))


def _library() -> Any:
    library = ctypes.CDLL(str(Path(llama_cpp.__file__).parent / "lib" / "libggml-base.so.0"))
    for name, result, arguments in (
        ("gguf_init_from_file", ctypes.c_void_p, [ctypes.c_char_p, _InitParameters]),
        ("gguf_free", None, [ctypes.c_void_p]),
        ("gguf_get_data_offset", ctypes.c_size_t, [ctypes.c_void_p]),
        ("gguf_get_n_tensors", ctypes.c_int64, [ctypes.c_void_p]),
        ("gguf_get_tensor_name", ctypes.c_char_p, [ctypes.c_void_p, ctypes.c_int64]),
        ("gguf_get_tensor_type", ctypes.c_int, [ctypes.c_void_p, ctypes.c_int64]),
        ("gguf_get_tensor_offset", ctypes.c_size_t, [ctypes.c_void_p, ctypes.c_int64]),
        ("gguf_get_tensor_size", ctypes.c_size_t, [ctypes.c_void_p, ctypes.c_int64]),
        ("ggml_get_type_traits", ctypes.POINTER(_Traits), [ctypes.c_int]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def tensors_of(path: Path) -> tuple[GgufTensor, ...]:
    """Return the tensors of a file, in its order. Raises `ModelError` when ggml cannot read it."""
    library = _library()
    file = library.gguf_init_from_file(os.fsencode(path), _InitParameters(no_alloc=True, ctx=None))
    if not file:
        raise ModelError(f"cannot read the tensors of {path}", advice="the file is damaged: replace it")
    try:
        start = library.gguf_get_data_offset(file)
        return tuple(
            GgufTensor(
                library.gguf_get_tensor_name(file, number).decode(errors="replace"),
                library.gguf_get_tensor_type(file, number),
                start + library.gguf_get_tensor_offset(file, number),
                library.gguf_get_tensor_size(file, number),
            )
            for number in range(library.gguf_get_n_tensors(file))
        )
    finally:
        library.gguf_free(file)


def values_of(data: Any, kind: int, blocks: int = 1 << 16) -> Iterator[Any]:
    """Yield the values of a tensor's bytes as 32-bit floats, some blocks at a time."""
    traits = _library().ggml_get_type_traits(kind).contents
    if kind == F32:
        yield from np.array_split(data.view(np.float32), max(1, data.size // (blocks * 128)))
        return
    step = blocks * traits.type_size
    for start in range(0, data.size, step):
        part = np.ascontiguousarray(data[start : start + step])
        count = part.size // traits.type_size * traits.blck_size
        found = np.empty(count, np.float32)
        traits.to_float(part.ctypes.data, found.ctypes.data, count)
        yield found
