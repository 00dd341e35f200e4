"""The table of tensor types, compared with the llama.cpp that the engine uses."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from inventory.model_files.gguf import read_header
from inventory.model_files.tensor_types import TENSOR_TYPES, is_quantised, main_type
from tests import ggufs
from tests.ggufs import Tensor


@pytest.mark.model
def test_names_and_sizes_are_those_of_llama_cpp() -> None:
    import llama_cpp

    library = ctypes.CDLL(str(Path(llama_cpp.__file__).parent / "lib" / "libggml-base.so.0"))
    library.ggml_type_name.restype = ctypes.c_char_p
    library.ggml_blck_size.restype = ctypes.c_int64
    library.ggml_type_size.restype = ctypes.c_size_t
    assert len(TENSOR_TYPES) > 30
    for kind, known in TENSOR_TYPES.items():
        name = library.ggml_type_name(kind).decode()
        assert (name.upper(), library.ggml_blck_size(kind), library.ggml_type_size(kind)) == known


def test_header_has_the_tensors_of_each_type_with_most_bytes_first(tmp_path: Path) -> None:
    tensors = (
        Tensor("blk.0.attn_norm.weight", 64, 0, 256),
        Tensor("blk.0.attn_q.weight", 1024, 12, 576),
        Tensor("output.weight", 1024, 14, 840),
        Tensor("blk.0.attn_k.weight", 512, 12, 288),
    )
    header = read_header(ggufs.write_tensors(tmp_path / "m.gguf", tensors))
    shares = [(share.name, share.tensors, share.elements, share.size) for share in header.tensor_types]
    assert shares == [("Q4_K", 2, 1536, 864), ("Q6_K", 1, 1024, 840), ("F32", 1, 64, 256)]
    assert header.parameters == 2624
    assert main_type(header.tensor_types) == "Q4_K"


@pytest.mark.parametrize(("kind", "size", "quantised"), [(0, 256, False), (1, 128, False), (8, 68, True)])
def test_quantised_types_are_recognised(tmp_path: Path, kind: int, size: int, quantised: bool) -> None:
    file = ggufs.write_tensors(tmp_path / "m.gguf", (Tensor("w", 64, kind, size),))
    assert is_quantised(read_header(file).tensor_types) is quantised


def test_unknown_type_is_named_by_its_number(tmp_path: Path) -> None:
    file = ggufs.write_tensors(tmp_path / "m.gguf", (Tensor("w", 64, 99, 64),))
    assert [share.name for share in read_header(file).tensor_types] == ["type 99"]
