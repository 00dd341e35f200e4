"""GGUF files of any size that take no space: a header, and a hole where the tensors would be."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

_STRING, _NUMBER = 8, 4
_Q4_K = 12
_BLOCK, _BLOCK_BYTES = 256, 144


@dataclass(frozen=True)
class Model:
    """A transformer in numbers; `parameters` are all of one tensor in Q4_K."""

    parameters: int
    layers: int
    heads: int
    kv_heads: int
    embedding: int
    feed_forward: int
    vocabulary: int
    context: int = 32768


LIGHT = Model(7_615_616_512, 28, 28, 4, 3584, 18944, 152064)
"""The numbers of Qwen2.5-7B."""
BALANCED = Model(13_015_864_320, 40, 40, 40, 5120, 13824, 32000, 4096)
"""The numbers of Llama-2-13B."""
PROFESSIONAL = Model(70_553_706_496, 80, 64, 8, 8192, 28672, 128256, 131072)
"""The numbers of Llama-3.1-70B."""


def write(path: Path, model: Model) -> Path:
    """The file at `path`, sparse."""
    numbers = {
        "block_count": model.layers,
        "context_length": model.context,
        "embedding_length": model.embedding,
        "feed_forward_length": model.feed_forward,
        "attention.head_count": model.heads,
        "attention.head_count_kv": model.kv_heads,
        "vocab_size": model.vocabulary,
    }
    entries = [
        *(_text(key) + struct.pack("<I", _STRING) + _text(value) for key, value in TEXTS.items()),
        *(_text(f"llama.{key}") + struct.pack("<II", _NUMBER, value) for key, value in numbers.items()),
    ]
    header = b"GGUF" + struct.pack("<IQQ", 3, 1, len(entries)) + b"".join(entries)
    header += _text("w") + struct.pack("<IQIQ", 1, model.parameters // _BLOCK * _BLOCK, _Q4_K, 0)
    header += bytes(-len(header) % 32)
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + model.parameters // _BLOCK * _BLOCK_BYTES)
    return path


TINY = Model(2560, 1, 1, 1, 64, 64, 256)
"""A file of a few hundred bytes."""


def of_size(size: int) -> Model:
    """One whose tensors take `size` bytes."""
    return Model(size // _BLOCK_BYTES * _BLOCK, 1, 1, 1, 64, 64, 256)


@dataclass(frozen=True)
class Tensor:
    """A tensor of `size` bytes, of the type with the number `kind`."""

    name: str
    elements: int
    kind: int
    size: int


def write_tensors(path: Path, tensors: tuple[Tensor, ...], **texts: str) -> Path:
    """A file with these tensors, all zeros, and these texts in its header (`__` stands for a dot)."""
    pairs = TEXTS | {key.replace("__", "."): value for key, value in texts.items()}
    entries = [_text(key) + struct.pack("<I", _STRING) + _text(value) for key, value in pairs.items()]
    header = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(entries)) + b"".join(entries)
    place = 0
    for tensor in tensors:
        header += _text(tensor.name) + struct.pack("<IQIQ", 1, tensor.elements, tensor.kind, place)
        place += -(-tensor.size // 32) * 32
    header += bytes(-len(header) % 32)
    path.write_bytes(header + bytes(place))
    return path


CHAT_TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
TEXTS = {"general.architecture": "llama", "tokenizer.chat_template": CHAT_TEMPLATE}


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data
