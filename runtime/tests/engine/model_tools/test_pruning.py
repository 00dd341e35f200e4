"""Pruning by magnitude, and which tensors it changes."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llama_cpp")

from clawd_runtime.engine.llama.tensors import BF16, F16, F32, GgufTensor, tensors_of, values_of
from clawd_runtime.engine.model_tools.pruning import is_prunable, prune, prune_smallest, zeros_in

pytestmark = pytest.mark.model

MASKS: dict[Any, int] = {np.uint32: 0x7FFFFFFF, np.uint16: 0x7FFF}


def written(path: Path, tensors: dict[str, np.ndarray]) -> Path:
    """Write a GGUF file with these tensors of 16-bit or 32-bit floats."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    header = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), 1)
    header += text("general.architecture") + struct.pack("<I", 8) + text("llama")
    data = b""
    for name, values in tensors.items():
        kind = F16 if values.dtype == np.float16 else F32
        header += text(name) + struct.pack("<IQIQ", 1, values.size, kind, len(data))
        data += values.tobytes()
        data += bytes(-len(data) % 32)
    path.write_bytes(header + bytes(-len(header) % 32) + data)
    return path


def read(path: Path, name: str, kind: type) -> np.ndarray:
    (tensor,) = [tensor for tensor in tensors_of(path) if tensor.name == name]
    return np.fromfile(path, kind, tensor.size // np.dtype(kind).itemsize, offset=tensor.offset)


@pytest.mark.parametrize(("floats", "bits"), [(np.float16, np.uint16), (np.float32, np.uint32)])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.99])
def test_smallest_magnitudes_become_zero_whatever_their_sign(floats: type, bits: type, share: float) -> None:
    values: Any = np.random.default_rng(1).normal(size=1000).astype(floats)
    expected = np.sort(np.abs(values))[int(1000 * share) :]
    pruned = values.copy()
    prune_smallest(pruned.view(bits), int(1000 * share), MASKS[bits])
    kept = pruned[pruned != 0]
    assert len(kept) == 1000 - int(1000 * share)
    assert (np.sort(np.abs(kept)) == expected).all()
    assert (kept == values[pruned != 0]).all()


def test_among_equal_magnitudes_exactly_the_share_becomes_zero() -> None:
    values = np.array([1, -1] * 50, np.float16)
    prune_smallest(values.view(np.uint16), 30, 0x7FFF)
    assert np.count_nonzero(values) == 70
    assert (values[:30] == 0).all()


@pytest.mark.parametrize(
    ("name", "kind", "prunable"),
    [
        ("blk.0.attn_q.weight", F16, True),
        ("blk.11.attn_output.weight", BF16, True),
        ("blk.0.ffn_down_exps.weight", F32, True),
        ("blk.0.attn_q.bias", F16, False),
        ("blk.0.attn_norm.weight", F32, False),
        ("blk.0.attn_q_norm.weight", F32, False),
        ("blk.0.ffn_gate_inp.weight", F32, False),
        ("token_embd.weight", F16, False),
        ("output.weight", F16, False),
        ("blk.0.attn_q.weight", 8, False),
    ],
)
def test_matrices_are_pruned_and_embeddings_norms_and_output_are_not(
    name: str, kind: int, prunable: bool
) -> None:
    assert is_prunable(GgufTensor(name, kind, 0, 64)) is prunable


def test_file_is_pruned_in_place_tensor_by_tensor(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    small = random.normal(size=320).astype(np.float16) / np.float16(100)
    large = random.normal(size=640).astype(np.float32)
    output = random.normal(size=320).astype(np.float16)
    names = ("blk.0.attn_q.weight", "blk.0.ffn_up.weight", "output.weight")
    path = written(tmp_path / "m.gguf", dict(zip(names, (small, large, output), strict=True)))
    parts: list[float] = []
    assert prune(path, 0.25, parts.append) == (0, 240, 960, 2)
    assert parts == [pytest.approx(1 / 5), 1.0]
    assert np.count_nonzero(read(path, names[0], np.float16) == 0) == 80
    assert np.count_nonzero(read(path, names[1], np.float32) == 0) == 160
    assert (read(path, names[2], np.float16) == output).all()
    assert zeros_in(path, lambda _: None) == 240


def test_values_of_a_tensor_are_read_in_parts() -> None:
    values = np.random.default_rng(3).normal(size=1000).astype(np.float16)
    parts = list(values_of(values.view(np.uint8), F16, blocks=64))
    assert len(parts) == 16
    assert (np.concatenate(parts) == values.astype(np.float32)).all()
