"""Estimate of the memory that clawd-engine needs for a model. Reads nothing but the header of the file.

The numbers are those of llama.cpp as the runtime's engine uses it (`clawd_runtime.engine.llama.model`):
16-bit keys and values for every token of every conversation from the start, and buffers for a step of 256
tokens. The terms of the buffers were fitted to what llama.cpp reports (7.3 to 10.8 MiB for SmolLM2-135M
with 1,024 to 8,192 tokens); the sum was within 3 % of the resident memory of the real engine.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

from inventory.errors import ArtifactError
from inventory.model_files.gguf import GgufHeader, read_header
from inventory.sections.models import LocalModel
from inventory.values import size_in_bytes

MIB = 1 << 20
STEP = 256
"""Most tokens of one step of the engine (its STEP_CAPACITY); at least one for each conversation."""
EMBEDDING_STEP = 64
"""Tokens of one step of its embeddings."""
CELLS = 256
"""llama.cpp rounds the tokens of a conversation up to a multiple of this."""
KV_BYTES = 2
PROCESS = 80 * MIB
"""Bytes of Python, the libraries, the vocabulary and the HTTP server."""
STATES_PART, LARGEST_STATES = 10, 1 << 30
"""By default, saved states have one part of this many of the engine's memory, and at most these bytes."""
GPU_PROCESS = 1 << 30
"""Bytes of the host's memory that a process needs when it computes on a GPU."""

Tier = Literal["light", "balanced", "professional"]
"""Size class of a model: about 7B, 13B or 70B parameters."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes of an engine's memory by purpose. `computing` is the arithmetic of the first three as text."""

    weights: int
    kv_cache: int
    buffers: int
    parameters: int
    context_length: int
    file_size: int
    computing: str
    process: int = PROCESS
    states: int = 0
    layers: int = 0
    """Layers that a GPU can compute: those of the model and its output layer."""

    @property
    def total(self) -> int:
        """Return the bytes that the engine needs in use."""
        return self.weights + self.kv_cache + self.buffers + self.states + self.process

    @property
    def how(self) -> str:
        """Return the arithmetic of the total as text for the user."""
        states = f" + saved states {size(self.states)}" if self.states else ""
        return f"{self.computing}{states} + process {size(self.process)}"

    @property
    def tier(self) -> Tier:
        """Return the size class of the model."""
        return tier_of(self.parameters)


def tier_of(parameters: int) -> Tier:
    """Return light below 10 billion parameters, balanced below 30 billion, else professional."""
    if parameters < 10_000_000_000:
        return "light"
    return "balanced" if parameters < 30_000_000_000 else "professional"


def footprint(
    header: GgufHeader, *, context_size: int, parallel: int, file_size: int = 0, embeddings: bool = False
) -> Footprint:
    """Return the memory that `parallel` conversations of `context_size` tokens need with a model.

    `embeddings` have a context of one more conversation, and compute all scores of their tokens.
    """
    shape = header.shape
    cells = -(-context_size // CELLS) * CELLS
    step = max(STEP, parallel)
    sequences = parallel + embeddings
    kv_cache = shape.kv_elements * KV_BYTES * cells * sequences
    buffers = (
        step * 4 * (3 * shape.feed_forward + 4 * shape.embedding)
        + step * 2 * cells
        + (parallel + EMBEDDING_STEP * embeddings) * shape.vocabulary * 4
    )
    computing = (
        f"weights {size(header.weights)} + KV cache {size(kv_cache)} ({_kv(header, cells, sequences)}) + "
        f"buffers {size(buffers)}"
    )
    return Footprint(
        header.weights,
        kv_cache,
        buffers,
        header.parameters,
        header.context_length,
        file_size,
        computing,
        layers=len(shape.kv_heads) + 1,
    )


@dataclass(frozen=True, slots=True)
class MemorySplit:
    """Bytes of weights, conversations and buffers in the GPU's and in the host's memory."""

    gpu_layers: int
    gpu: int
    host: int


def split(taken: Footprint, gpu_layers: int | None) -> MemorySplit:
    """Return how the memory divides between GPU and host when the GPU computes `gpu_layers` (`None`: all).

    All layers are assumed to have the same size. Both sides need buffers when both compute.
    """
    count = taken.layers if gpu_layers is None else min(gpu_layers, taken.layers)
    weights_and_cache = taken.weights + taken.kv_cache
    on_gpu = -(-weights_and_cache * count // taken.layers)
    rest = weights_and_cache - on_gpu
    return MemorySplit(count, on_gpu + taken.buffers, rest + taken.buffers if rest else 0)


def of_model(model: LocalModel) -> Footprint | None:
    """Return the memory that `model` needs; `None` when its file is not on this machine or unreadable."""
    try:
        status = model.path.stat()
        header = _header(model.path, status.st_size, status.st_mtime_ns)
    except (OSError, ArtifactError):
        return None
    taken = footprint(
        header,
        context_size=model.context_size,
        parallel=model.parallel,
        file_size=status.st_size,
        embeddings=model.embeddings,
    )
    return replace(taken, states=states_memory(model))


def states_memory(model: LocalModel) -> int:
    """Return the bytes of memory for states of conversations that have no slot."""
    if model.states == "none":
        return 0
    if model.states.memory is not None:
        return size_in_bytes(model.states.memory)
    return min(size_in_bytes(model.memory_max) // STATES_PART, LARGEST_STATES)


def states_disk(model: LocalModel) -> int:
    """Return the bytes of disk space for them."""
    if model.states == "none" or model.states.disk == "none":
        return 0
    return size_in_bytes(model.states.disk)


def size(count: int) -> str:
    """Return bytes as text: in MiB, from 10 GiB on in GiB."""
    return f"{-(-count // MIB)} MiB" if count < 10 << 30 else f"{count / (1 << 30):.1f} GiB"


def _kv(header: GgufHeader, cells: int, parallel: int) -> str:
    shape = header.shape
    layers, kinds = len(shape.kv_heads), set(shape.kv_heads)
    heads = f"{layers} layers × {kinds.pop()} heads" if len(kinds) == 1 else f"{sum(shape.kv_heads)} heads"
    length = f"({shape.key_length} + {shape.value_length})"
    return f"{heads} × {length} × {KV_BYTES} bytes × {cells} tokens × {parallel} conversations"


@lru_cache(maxsize=8)
def _header(path: Path, size: int, changed: int) -> GgufHeader:
    """Return the header of `path`; read again only when the file changes."""
    return read_header(path)
