"""How much memory clawd-engine takes for a model, before it is started. Pure but for reading a header.

The numbers are those of llama.cpp as the runtime's engine uses it (`clawd_runtime.engine.model`): keys and
values in 16 bits for every token of every conversation from the start, and buffers for a step of 256 tokens.
The terms of the buffers were fitted to what llama.cpp reports (7.3 to 10.8 MiB for SmolLM2-135M with 1,024 to
8,192 tokens); against the resident memory of the real engine the sum was within 3 %.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from inventory.errors import ArtifactError
from inventory.gguf import GgufHeader, read_header
from inventory.model import LocalModel

MIB = 1 << 20
STEP = 256
"""Tokens of one step of the engine at most (its STEP_CAPACITY), or one a conversation."""
CELLS = 256
"""llama.cpp rounds the tokens of a conversation up to a multiple of this."""
KV_BYTES = 2
PROCESS = 80 * MIB
"""Python, the libraries, the vocabulary and the HTTP server."""
GPU_PROCESS = 1 << 30
"""What a process that computes on a GPU keeps in the host's own memory."""

Tier = Literal["light", "balanced", "professional"]
"""By size of model: 7B and its like, 13B, 70B."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes of an engine's memory by what they are for. `how` is the arithmetic, for people."""

    weights: int
    kv_cache: int
    buffers: int
    parameters: int
    context_length: int
    file_size: int
    how: str
    process: int = PROCESS
    layers: int = 0
    """Those that GPUs can compute: the model's, and its output."""

    @property
    def total(self) -> int:
        """What the engine takes once people use it."""
        return self.weights + self.kv_cache + self.buffers + self.process

    @property
    def tier(self) -> Tier:
        """What such a model is called where tiers are spoken of."""
        return tier_of(self.parameters)


def tier_of(parameters: int) -> Tier:
    """light up to 10, balanced up to 30 thousand million parameters, professional beyond."""
    if parameters < 10_000_000_000:
        return "light"
    return "balanced" if parameters < 30_000_000_000 else "professional"


def footprint(header: GgufHeader, *, context_size: int, parallel: int, file_size: int = 0) -> Footprint:
    """What the engine takes for `parallel` conversations of `context_size` tokens with a model."""
    shape = header.shape
    cells = -(-context_size // CELLS) * CELLS
    step = max(STEP, parallel)
    kv_cache = shape.kv_elements * KV_BYTES * cells * parallel
    buffers = (
        step * 4 * (3 * shape.feed_forward + 4 * shape.embedding)
        + step * 2 * cells
        + parallel * shape.vocabulary * 4
    )
    how = (
        f"weights {size(header.weights)} + KV cache {size(kv_cache)} ({_kv(header, cells, parallel)}) + "
        f"buffers {size(buffers)} + process {size(PROCESS)}"
    )
    return Footprint(
        header.weights,
        kv_cache,
        buffers,
        header.parameters,
        header.context_length,
        file_size,
        how,
        layers=len(shape.kv_heads) + 1,
    )


@dataclass(frozen=True, slots=True)
class Split:
    """Bytes of weights, conversations and buffers in the GPU's and in the host's memory."""

    gpu_layers: int
    gpu: int
    host: int


def split(taken: Footprint, gpu_layers: int | None) -> Split:
    """Where an engine of which the GPU computes `gpu_layers` (all for `None`) has its memory.

    Layers are taken to be of one size. Buffers are needed on both sides when both compute.
    """
    count = taken.layers if gpu_layers is None else min(gpu_layers, taken.layers)
    weights_and_cache = taken.weights + taken.kv_cache
    on_gpu = -(-weights_and_cache * count // taken.layers)
    rest = weights_and_cache - on_gpu
    return Split(count, on_gpu + taken.buffers, rest + taken.buffers if rest else 0)


def of_model(model: LocalModel) -> Footprint | None:
    """What the engine takes for `model`; `None` when its file is not on this computer or cannot be read."""
    try:
        status = model.path.stat()
        header = _header(model.path, status.st_size, status.st_mtime_ns)
    except (OSError, ArtifactError):
        return None
    return footprint(
        header, context_size=model.context_size, parallel=model.parallel, file_size=status.st_size
    )


def size(count: int) -> str:
    """Bytes for people: MiB, or GiB from ten of them on."""
    return f"{-(-count // MIB)} MiB" if count < 10 << 30 else f"{count / (1 << 30):.1f} GiB"


def _kv(header: GgufHeader, cells: int, parallel: int) -> str:
    shape = header.shape
    layers, kinds = len(shape.kv_heads), set(shape.kv_heads)
    heads = f"{layers} layers × {kinds.pop()} heads" if len(kinds) == 1 else f"{sum(shape.kv_heads)} heads"
    length = f"({shape.key_length} + {shape.value_length})"
    return f"{heads} × {length} × {KV_BYTES} bytes × {cells} tokens × {parallel} conversations"


@lru_cache(maxsize=8)
def _header(path: Path, size: int, changed: int) -> GgufHeader:
    """The header of `path`, read again only when the file changes."""
    return read_header(path)
