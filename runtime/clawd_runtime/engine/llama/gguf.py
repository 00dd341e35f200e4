"""Check of a model file's header, so that a wrong file is reported before llama.cpp opens it.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from pathlib import Path

from clawd_runtime.errors import ModelError

MAGIC = b"GGUF"
_HEADER = struct.Struct("<4sIQQ")  # magic, version, number of tensors, number of metadata entries


def check_gguf(path: Path) -> None:
    """Raise `ModelError` unless `path` begins as a GGUF file of a version that llama.cpp reads.

    Raises:
        ModelError: The file cannot be read, or is not such a file.

    """
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER.size)
    except OSError as error:
        raise ModelError(
            f"cannot read the model {path}: {error.strerror}",
            advice="check that the file exists and is readable for the engine's user",
        ) from error
    if len(header) < _HEADER.size or not header.startswith(MAGIC):
        raise ModelError(
            f"cannot load the model {path}: not a GGUF file", advice="replace it with the right file"
        )
    _, version, tensors, _ = _HEADER.unpack(header)
    if version not in (2, 3) or tensors == 0:
        raise ModelError(
            f"cannot load the model {path}: GGUF version {version} with {tensors} tensors",
            advice="replace it with a complete model of GGUF version 2 or 3",
        )
