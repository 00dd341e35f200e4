"""The types of tensors in GGUF files: names, and the size of their blocks.

Source: `ggml_type_name`, `ggml_blck_size` and `ggml_type_size` of the llama.cpp in llama-cpp-python 0.3.36.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class TensorType(NamedTuple):
    """A type of tensors: `elements` of them take a block of `size` bytes."""

    name: str
    elements: int
    size: int


TENSOR_TYPES = {
    0: TensorType("F32", 1, 4), 1: TensorType("F16", 1, 2), 2: TensorType("Q4_0", 32, 18),
    3: TensorType("Q4_1", 32, 20), 6: TensorType("Q5_0", 32, 22), 7: TensorType("Q5_1", 32, 24),
    8: TensorType("Q8_0", 32, 34), 9: TensorType("Q8_1", 32, 36), 10: TensorType("Q2_K", 256, 84),
    11: TensorType("Q3_K", 256, 110), 12: TensorType("Q4_K", 256, 144), 13: TensorType("Q5_K", 256, 176),
    14: TensorType("Q6_K", 256, 210), 15: TensorType("Q8_K", 256, 292), 16: TensorType("IQ2_XXS", 256, 66),
    17: TensorType("IQ2_XS", 256, 74), 18: TensorType("IQ3_XXS", 256, 98), 19: TensorType("IQ1_S", 256, 50),
    20: TensorType("IQ4_NL", 32, 18), 21: TensorType("IQ3_S", 256, 110), 22: TensorType("IQ2_S", 256, 82),
    23: TensorType("IQ4_XS", 256, 136), 24: TensorType("I8", 1, 1), 25: TensorType("I16", 1, 2),
    26: TensorType("I32", 1, 4), 27: TensorType("I64", 1, 8), 28: TensorType("F64", 1, 8),
    29: TensorType("IQ1_M", 256, 56), 30: TensorType("BF16", 1, 2), 34: TensorType("TQ1_0", 256, 54),
    35: TensorType("TQ2_0", 256, 66), 39: TensorType("MXFP4", 32, 17), 40: TensorType("NVFP4", 64, 36),
    41: TensorType("Q1_0", 128, 18), 42: TensorType("Q2_0", 64, 18),
}  # fmt: skip
"""By their number in the file."""

UNQUANTISED = frozenset({"F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8"})
"""Types of numbers that stand for themselves."""


@dataclass(frozen=True, slots=True)
class TensorTypeShare:
    """The tensors of one type in a model: how many they are, their elements, and their bytes."""

    name: str
    tensors: int
    elements: int
    size: int

    @property
    def bits(self) -> float:
        """Return the bits of one element."""
        return 8 * self.size / self.elements if self.elements else 0.0

    def with_tensor(self, elements: int, size: int) -> TensorTypeShare:
        """Return the share with one more tensor."""
        return TensorTypeShare(self.name, self.tensors + 1, self.elements + elements, self.size + size)


def type_named(kind: int) -> TensorType:
    """Return a tensor type; an unknown one counts as empty."""
    return TENSOR_TYPES.get(kind) or TensorType(f"type {kind}", 1, 0)


def is_quantised(shares: tuple[TensorTypeShare, ...]) -> bool:
    """Return whether any weights are of a quantised type, and so have lost precision already."""
    return any(share.name not in UNQUANTISED for share in shares)


def main_type(shares: tuple[TensorTypeShare, ...]) -> str:
    """Return the type that most elements have; empty for a model without tensors."""
    return max(shares, key=lambda share: share.elements).name if shares else ""
