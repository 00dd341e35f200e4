from __future__ import annotations

import struct
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inventory.errors import ArtifactError
from inventory.model_files.gguf import Shape, Vocabulary, read_header, read_vocabulary, unservable

SCALARS = {4: "<I", 6: "<f", 7: "<?", 10: "<Q", 11: "<q"}


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def entry(key: str, kind: int, value: object) -> bytes:
    if kind == 8:
        return text(key) + struct.pack("<I", 8) + text(str(value))
    if kind == 9:
        assert isinstance(value, list)
        if value and isinstance(value[0], int):
            return text(key) + struct.pack(f"<IIQ{len(value)}I", 9, 4, len(value), *value)
        strings = b"".join(text(item) for item in value)
        return text(key) + struct.pack("<IIQ", 9, 8, len(value)) + strings
    return text(key) + struct.pack("<I", kind) + struct.pack(SCALARS[kind], value)


def gguf(entries: list[bytes], *, version: int = 3, data: int = 68, alignment: int = 32) -> bytes:
    """A file with one Q8_0 tensor of 64 elements (68 bytes), and `data` bytes for it."""
    header = b"GGUF" + struct.pack("<IQQ", version, 1, len(entries)) + b"".join(entries)
    header += text("w") + struct.pack("<IQIQ", 1, 64, 8, 0)
    return header + bytes(-len(header) % alignment) + bytes(data)


CHAT = [entry("general.architecture", 8, "llama"), entry("tokenizer.chat_template", 8, "{{ messages }}")]


def write(folder: Path, data: bytes) -> Path:
    path = folder / "m.gguf"
    path.write_bytes(data)
    return path


ENTRIES = st.lists(
    st.one_of(
        st.builds(entry, st.text(max_size=20), st.just(8), st.text(max_size=50)),
        st.builds(entry, st.text(max_size=20), st.just(9), st.lists(st.text(max_size=9), max_size=9)),
        st.builds(entry, st.text(max_size=20), st.sampled_from([4, 10]), st.integers(0, 2**32 - 1)),
        st.builds(entry, st.text(max_size=20), st.just(7), st.booleans()),
    ),
    max_size=8,
)


@given(ENTRIES, st.text(min_size=1), st.sampled_from([2, 3]), st.data())
def test_header_is_read_whole_and_refused_when_truncated_anywhere(
    others: list[bytes], template: str, version: int, chance: st.DataObject
) -> None:
    ours = [
        entry("general.architecture", 8, "llama"),
        entry("tokenizer.chat_template", 8, template),
        entry("general.name", 8, "Tiny"),
    ]
    whole = gguf([*others, *ours], version=version)
    with tempfile.TemporaryDirectory() as folder:
        header = read_header(write(Path(folder), whole))
        assert (header.version, header.architecture, header.name) == (version, "llama", "Tiny")
        assert (header.chat_template, header.split_count, header.tensors) == (template, 1, 1)
        end = chance.draw(st.integers(0, len(whole) - 1))
        with pytest.raises(ArtifactError):
            read_header(write(Path(folder), whole[:end]))


@given(st.binary(max_size=300))
def test_random_bytes_raise_only_artifact_errors(noise: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.raises(ArtifactError):
        read_header(write(Path(folder), b"GGUF\x03\x00\x00\x00" + noise))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty"),
        (b"PK\x03\x04" + bytes(100), "not a GGUF file: it is a zip archive"),
        (b"\xef\xbb\xbf \n<!DOCTYPE html>", "not a GGUF file: it is a web page"),
        (b'{"error": "Invalid username or password."}', "not a GGUF file: it is JSON"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:", "pointer of Git LFS"),
        (b"\x1f\x8b\x08" + bytes(100), "gzip"),
        (b"tjgg" + bytes(100), "before GGUF"),
        (struct.pack("<Q", 99) + b'{"__metadata__":{}}', "safetensors"),
        (b"nonsense", "not a GGUF"),
        (gguf(CHAT, version=1), "version 1"),
        (b"GGUF" + struct.pack(">I", 3) + bytes(50), "version 3 in big-endian order"),
        (gguf(CHAT, version=4), "version 4"),
        (gguf(CHAT, data=67), "1 of "),
        (gguf([CHAT[1]]), "architecture"),
        (gguf([*CHAT, text("k") + struct.pack("<I", 99)]), "unknown type 99"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**60, 1), "tensors"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("k") + struct.pack("<IIQ", 9, 8, 2**60), "longer"),
    ],
)
def test_malformed_file_is_refused_with_path_and_reason(tmp_path: Path, data: bytes, reason: str) -> None:
    with pytest.raises(ArtifactError, match=reason) as caught:
        read_header(write(tmp_path, data))
    assert "m.gguf" in str(caught.value)


@pytest.mark.parametrize("alignment", [8, 32, 64, 4096])
def test_tensor_data_begins_at_the_declared_alignment(tmp_path: Path, alignment: int) -> None:
    whole = gguf([*CHAT, entry("general.alignment", 4, alignment)], alignment=alignment)
    assert read_header(write(tmp_path, whole)).architecture == "llama"
    with pytest.raises(ArtifactError, match="truncated: 1 of"):
        read_header(write(tmp_path, whole[:-1]))


def test_split_count_is_read(tmp_path: Path) -> None:
    assert read_header(write(tmp_path, gguf([*CHAT, entry("split.count", 4, 3)]))).split_count == 3


SMOLLM2 = [
    entry("llama.block_count", 4, 30),
    entry("llama.context_length", 4, 8192),
    entry("llama.embedding_length", 4, 576),
    entry("llama.feed_forward_length", 4, 1536),
    entry("llama.attention.head_count", 4, 9),
    entry("llama.attention.head_count_kv", 4, 3),
    entry("tokenizer.ggml.tokens", 9, ["a", "b", "c"]),
]


def test_shape_of_a_model_is_read(tmp_path: Path) -> None:
    header = read_header(write(tmp_path, gguf([*CHAT, *SMOLLM2])))
    assert header.shape == Shape((3,) * 30, 64, 64, 576, 1536, 3)
    assert header.shape.kv_elements == 30 * 3 * 128
    assert (header.context_length, header.weights, header.parameters) == (8192, 68, 64)


def test_shape_with_heads_per_layer_and_own_key_length_is_read(tmp_path: Path) -> None:
    hybrid = [
        *SMOLLM2[:5],
        entry("llama.attention.head_count_kv", 9, [4, 0, 4]),
        entry("llama.attention.key_length", 4, 128),
        entry("llama.attention.value_length", 4, 96),
        entry("llama.vocab_size", 4, 49152),
    ]
    shape = read_header(write(tmp_path, gguf([*CHAT, *hybrid]))).shape
    assert shape == Shape((4, 0, 4), 128, 96, 576, 1536, 49152)
    assert shape.kv_elements == 8 * (128 + 96)


def test_shape_without_header_entries_is_zero(tmp_path: Path) -> None:
    assert read_header(write(tmp_path, gguf(CHAT))).shape == Shape((), 0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ([*CHAT], None),
        ([*CHAT, entry("general.type", 8, "model"), entry("llama.pooling_type", 4, 0)], None),
        (CHAT[:1], "has no chat template (llama)"),
        ([*CHAT, entry("split.count", 4, 3)], "is one of 3 parts"),
        ([entry("general.architecture", 8, "clip")], "(mmproj)"),
        ([*CHAT, entry("general.type", 8, "mmproj")], "(mmproj)"),
        ([CHAT[0], entry("general.type", 8, "adapter")], "has the type adapter"),
        ([CHAT[0], entry("adapter.type", 8, "lora")], "has the type adapter"),
        ([CHAT[0], entry("general.type", 8, "imatrix")], "has the type imatrix"),
        (
            [entry("general.architecture", 8, "nomic-bert"), CHAT[1]],
            "its architecture makes embeddings (nomic-bert)",
        ),
        (
            [entry("general.architecture", 8, "qwen3"), CHAT[1], entry("qwen3.pooling_type", 4, 3)],
            "is an embedding model (qwen3)",
        ),
    ],
)
def test_model_that_cannot_chat_is_unservable_with_its_reason(
    tmp_path: Path, entries: list[bytes], why: str | None
) -> None:
    verdict = unservable(read_header(write(tmp_path, gguf(entries))))
    assert (verdict is None) is (why is None)
    assert why is None or (verdict is not None and why in verdict[0] and verdict[1])


def test_file_without_weights_is_unservable(tmp_path: Path) -> None:
    whole = b"GGUF" + struct.pack("<IQQ", 3, 0, len(CHAT)) + b"".join(CHAT) + bytes(32)
    verdict = unservable(read_header(write(tmp_path, whole)))
    assert verdict is not None
    assert verdict[0] == "has no weights, only a vocabulary"


def test_vocabulary_is_read_with_tokens_and_merges(tmp_path: Path) -> None:
    entries = [
        *CHAT,
        entry("tokenizer.ggml.model", 8, "gpt2"),
        entry("tokenizer.ggml.tokens", 9, ["a", "b", "ab"]),
        entry("tokenizer.ggml.merges", 9, ["a b"]),
    ]
    found = read_vocabulary(write(tmp_path, gguf(entries)))
    assert found == Vocabulary("gpt2", ("a", "b", "ab"), (), ("a b",))
