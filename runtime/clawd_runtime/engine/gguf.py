"""A first look at a model file, so that a wrong one is named before llama.cpp opens it.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from pathlib import Path

from clawd_runtime.errors import ModelError

MAGIC = b"GGUF"
_HEADER = struct.Struct("<4sIQQ")  # magic, version, number of tensors, number of metadata entries


def check_gguf(path: Path) -> None:
    """Nothing, when `path` begins as a GGUF file of a version that llama.cpp reads.

    Raises:
        ModelError: it cannot be read or is something else.
    """
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER.size)
    except OSError as error:
        raise ModelError(
            f"cannot read the model {path}: {error.strerror}",
            advice="check that the file is there and may be read by the engine's user",
        ) from error
    if len(header) < _HEADER.size or not header.startswith(MAGIC):
        raise ModelError(f"the model {path} is not a GGUF file", advice="put the right file in its place")
    _, version, tensors, _ = _HEADER.unpack(header)
    if version not in (2, 3) or tensors == 0:
        raise ModelError(
            f"the model {path} cannot be served: it is GGUF version {version} with {tensors} tensors",
            advice="put a complete model of GGUF version 2 or 3 in its place",
        )
