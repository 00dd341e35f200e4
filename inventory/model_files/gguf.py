"""A reader of GGUF headers.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Versions 2 and 3, little-endian.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeVar

from inventory.errors import ArtifactError
from inventory.model_files.architectures import not_chatting
from inventory.model_files.tensor_types import TensorTypeShare, type_named
from inventory.values import ValueProblem

T = TypeVar("T")

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_STRING, _ARRAY = 8, 9
_SCALARS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip
_DEFAULT_ALIGNMENT = 32
_MOST_ENTRIES = 1 << 20
_MOST_DIMENSIONS = 4
_WANTED = {
    "general.architecture", "general.name", "general.type", "general.alignment", "split.count",
    "tokenizer.chat_template", "tokenizer.ggml.model", "adapter.type",
}  # fmt: skip
_VOCABULARY = {"tokenizer.ggml.tokens", "tokenizer.ggml.merges", "tokenizer.ggml.scores"}
_MOST_LAYERS = 4096
_OTHERS: tuple[tuple[bytes, str, str], ...] = (
    (
        b"version https://git-lfs",
        "is a pointer of Git LFS, not the file",
        "fetch it with `git lfs pull`",
    ),
    (b"<", "is a web page, not a model", "download the file itself, not the page about it"),
    (b"{", "is JSON, perhaps an error of the server it was downloaded from", "download it again"),
    (b"PK\x03\x04", "is a zip archive or a PyTorch model", "unpack it, or use the model's GGUF file"),
    (b"\x1f\x8b", "is compressed with gzip", "unpack it with `gunzip`"),
    (b"lmgg", "has the format before GGUF", "use a GGUF file of the model"),
    (b"fmgg", "has the format before GGUF", "use a GGUF file of the model"),
    (b"algg", "is an adapter (LoRA) in the format before GGUF", "use a GGUF file of the model itself"),
    (b"tjgg", "has the format before GGUF", "use a GGUF file of the model"),
)
"""Other kinds of files that are saved under the name of a model: first bytes, description, hint."""
_INTEGERS = (0, 1, 2, 3, 4, 5, 10, 11)
"""Value types of an array with one number for each layer."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The dimensions of a transformer; a value that the header lacks is 0.

    `kv_heads` has one number for each layer, 0 for a layer without a KV cache. `key_length` and
    `value_length` are the elements of one head.
    """

    kv_heads: tuple[int, ...]
    key_length: int
    value_length: int
    embedding: int
    feed_forward: int
    vocabulary: int

    @property
    def kv_elements(self) -> int:
        """Return the number of KV cache elements of one token in all layers."""
        return sum(self.kv_heads) * (self.key_length + self.value_length)


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """The parts of the header that matter for serving.

    `split_count` is the number of files that the model is split into, 1 when it is whole. `weights` is the
    size of all tensors in bytes, `parameters` the number of their elements, `context_length` the context that
    the model was trained for, in tokens (0 when unknown).
    """

    version: int
    architecture: str
    name: str
    tensors: int
    chat_template: str | None
    split_count: int
    weights: int
    parameters: int
    context_length: int
    shape: Shape
    kind: str = ""
    """`general.type`: model, adapter, mmproj, vocab, …; empty in older files."""
    pooling: int = 0
    """Pooling type of an embedding model; 0 for none."""
    tensor_types: tuple[TensorTypeShare, ...] = ()
    """The types of the tensors, those with most bytes first."""
    tokenizer: str = ""
    """`tokenizer.ggml.model`: the kind of the tokenizer."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The data of a model's tokenizer, as in the file.

    `model` is the name of the tokenizer in GGUF: `gpt2` merges pairs of bytes in the order of `merges`,
    `llama` merges characters by the `scores` of `tokens`.
    """

    model: str
    tokens: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    merges: tuple[str, ...] = ()
    bos: str = ""
    """Text of the token that begins a text; empty if there is none."""
    eos: str = ""
    """Text of the token that ends a text; empty if there is none."""


def unservable(header: GgufHeader) -> ValueProblem:
    """Return why a model cannot answer messages, and a hint; `None` when it can."""
    advice = "use the instruction-tuned variant of the model itself, as one GGUF file"
    if header.split_count > 1:
        return (
            f"is one of {header.split_count} parts",
            "join them into one file with `llama-gguf-split --merge`",
        )
    if header.kind == "mmproj" or header.architecture in ("clip", "mmproj"):
        return "is the projector of a multimodal model (mmproj), not the model", advice
    if header.kind in ("adapter", "lora", "controlvector", "imatrix"):
        return f"has the type {header.kind}, which modifies a model and is not a model itself", advice
    if header.tensors == 0:
        return "has no weights, only a vocabulary", advice
    if (verdict := not_chatting(header.architecture)) is not None:
        return verdict
    if header.pooling:
        return f"is an embedding model ({header.architecture}), which cannot chat", "use a chat model"
    if header.chat_template is None:
        return (
            f"has no chat template ({header.architecture}): it continues texts and cannot chat",
            "use the instruction-tuned variant (its name often ends in -it or -instruct)",
        )
    return None


def read_header(path: Path) -> GgufHeader:
    """Read the header and check that all tensors are in the file.

    Raises `ArtifactError` when the file is not GGUF, damaged or truncated.
    """
    return _read(path, lambda reader: reader.header())


def read_vocabulary(path: Path) -> Vocabulary:
    """Read the data of the tokenizer. Raises `ArtifactError` as `read_header` does."""
    return _read(path, lambda reader: reader.vocabulary())


def _read(path: Path, read: Callable[[_Reader], T]) -> T:
    try:
        with path.open("rb") as handle:
            begin = handle.read(64)
            if not begin.startswith(_MAGIC):
                raise _something_else(path, begin)
            with mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return read(_Reader(path, data))
    except OSError as error:
        raise ArtifactError(
            f"{path}: cannot be read: {error.strerror}", advice="make the file readable for your user"
        ) from error


def _something_else(path: Path, begin: bytes) -> ArtifactError:
    """Return the error for a file that does not begin like GGUF."""
    if not begin:
        return ArtifactError(f"{path}: is empty", advice="download it again")
    text = begin.removeprefix(b"\xef\xbb\xbf").lstrip()
    for magic, what, advice in _OTHERS:
        if text.startswith(magic) or begin.startswith(magic):
            return ArtifactError(f"{path}: is not a GGUF file: it {what}", advice=advice)
    if begin[8:9] == b"{":
        return ArtifactError(
            f"{path}: is not a GGUF file: it has the format safetensors",
            advice="use a GGUF file of the model, or convert it with llama.cpp's convert_hf_to_gguf.py",
        )
    return ArtifactError(f"{path}: is not a GGUF file", advice="use a model in llama.cpp's GGUF format")


class _Reader:
    """A cursor over the header; `_place` is the offset of the next byte."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self._path = path
        self._data = data
        self._place = len(_MAGIC)
        self._whole_arrays: frozenset[str] = frozenset()

    def vocabulary(self) -> Vocabulary:
        self._whole_arrays = frozenset(_VOCABULARY)
        _, _, values = self._begin()

        def texts(key: str) -> tuple[str, ...]:
            found = values.get(key)
            return found if isinstance(found, tuple) else ()

        tokens = texts("tokenizer.ggml.tokens")

        def text_of(key: str) -> str:
            token = _whole(values.get(key), -1)
            return tokens[token] if 0 <= token < len(tokens) else ""

        scores = values.get("tokenizer.ggml.scores")
        return Vocabulary(
            str(values.get("tokenizer.ggml.model") or ""),
            tokens,
            scores if isinstance(scores, tuple) else (),
            texts("tokenizer.ggml.merges"),
            text_of("tokenizer.ggml.bos_token_id"),
            text_of("tokenizer.ggml.eos_token_id"),
        )

    def _begin(self) -> tuple[int, int, dict[str, object]]:
        """Return the version, the number of tensors, and all entries."""
        version = self._number("<I")
        if version not in _VERSIONS:
            swapped = int.from_bytes(version.to_bytes(4, "big"), "little")
            which = f"{swapped} in big-endian order" if swapped in _VERSIONS else str(version)
            raise ArtifactError(
                f"{self._path}: is GGUF version {which}: only versions 2 and 3 (little-endian) are supported",
                advice="use another file of the model, or convert it again with a current llama.cpp",
            )
        tensors, entries = self._number("<Q"), self._number("<Q")
        if tensors > _MOST_ENTRIES or entries > _MOST_ENTRIES:
            self._damaged(f"its header claims {tensors} tensors and {entries} entries")
        return version, tensors, dict(self._entry() for _ in range(entries))

    def header(self) -> GgufHeader:
        version, tensors, values = self._begin()
        architecture = values.get("general.architecture")
        if not isinstance(architecture, str):
            self._damaged("its header has no architecture")
        weights, shares = self._tensors(tensors, _whole(values.get("general.alignment"), _DEFAULT_ALIGNMENT))
        template = values.get("tokenizer.chat_template")
        return GgufHeader(
            version,
            architecture,
            str(values.get("general.name") or ""),
            tensors,
            template if isinstance(template, str) else None,
            max(_whole(values.get("split.count"), 1), 1),
            weights,
            sum(share.elements for share in shares),
            _whole(values.get(f"{architecture}.context_length"), 0),
            _shape(values, architecture),
            str(values.get("general.type") or ("adapter" if "adapter.type" in values else "")),
            _whole(values.get(f"{architecture}.pooling_type"), 0),
            shares,
            str(values.get("tokenizer.ggml.model") or ""),
        )

    def _entry(self) -> tuple[str, object]:
        key = self._string()
        kind = self._number("<I")
        return key, self._value(kind, key in _WANTED, key in self._whole_arrays)

    def _value(self, kind: int, wanted: bool, whole: bool) -> object:
        """Return one value; `None` for a string that is not wanted, the length for a long array."""
        if kind in _SCALARS:
            return self._scalar(_SCALARS[kind])
        if kind == _STRING and wanted:
            return self._string()
        if kind == _STRING:
            self._skip(self._number("<Q"))
        elif kind == _ARRAY:
            return self._array(whole)
        else:
            self._damaged(f"it has a value of the unknown type {kind}")
        return None

    def _array(self, whole: bool) -> object:
        """Return the items of a `whole` array or of a short one of numbers; the length of any other."""
        kind, count = self._number("<I"), self._number("<Q")
        if whole and (kind == _STRING or kind in _SCALARS) and count <= len(self._data):
            return tuple(
                self._string() if kind == _STRING else self._scalar(_SCALARS[kind]) for _ in range(count)
            )
        if kind in _INTEGERS and count <= _MOST_LAYERS:
            return tuple(self._number(_SCALARS[kind]) for _ in range(count))
        if kind in _SCALARS:
            self._skip(count * struct.calcsize(_SCALARS[kind]))
            return count
        if kind not in (_STRING, _ARRAY):
            self._damaged(f"it has an array of the unknown type {kind}")
        if count > len(self._data):
            self._damaged("an array is longer than the file")
        for _ in range(count):
            if kind == _ARRAY:
                self._damaged("it has an array of arrays")
            self._skip(self._number("<Q"))
        return count

    def _tensors(self, count: int, alignment: int) -> tuple[int, tuple[TensorTypeShare, ...]]:
        """Return the bytes and the types of all tensors. Raises `ArtifactError` when some are missing."""
        end = 0
        shares: dict[int, TensorTypeShare] = {}
        for _ in range(count):
            self._skip(self._number("<Q"))
            dimensions = self._number("<I")
            if dimensions > _MOST_DIMENSIONS:
                self._damaged(f"a tensor has {dimensions} dimensions")
            elements = 1
            for _ in range(dimensions):
                elements *= self._number("<Q")
            kind, offset = self._number("<I"), self._number("<Q")
            known = type_named(kind)
            size = elements // known.elements * known.size
            shares[kind] = shares.get(kind, TensorTypeShare(known.name, 0, 0, 0)).with_tensor(elements, size)
            end = max(end, offset + size)
        start = -(-self._place // max(alignment, 1)) * max(alignment, 1)
        if start + end > len(self._data):
            missing = start + end - len(self._data)
            raise ArtifactError(
                f"{self._path}: is truncated: {missing} of {start + end} bytes are missing",
                advice="download it again",
            )
        ordered = sorted(shares.values(), key=lambda share: share.size, reverse=True)
        return len(self._data) - start, tuple(ordered)

    def _string(self) -> str:
        start = self._place + 8
        self._skip(self._number("<Q"))
        return self._data[start : self._place].decode(errors="replace")

    def _number(self, form: str) -> int:
        return int(self._scalar(form))

    def _scalar(self, form: str) -> int | float | bool:
        start = self._place
        self._skip(struct.calcsize(form))
        value: int | float | bool = struct.unpack_from(form, self._data, start)[0]
        return value

    def _skip(self, size: int) -> None:
        if self._place + size > len(self._data):
            self._damaged("its header ends too early")
        self._place += size

    def _damaged(self, why: str) -> NoReturn:
        raise ArtifactError(f"{self._path}: is damaged: {why}", advice="download it again")


def _shape(values: Mapping[str, object], architecture: str) -> Shape:
    """Return the dimensions from the keys of the format's section "LLM", with llama.cpp's defaults."""

    def number(key: str) -> int:
        return _whole(_largest(values.get(f"{architecture}.{key}")), 0)

    layers, heads = number("block_count"), number("attention.head_count")
    kv_heads = values.get(f"{architecture}.attention.head_count_kv", heads)
    if not isinstance(kv_heads, tuple):
        kv_heads = (_whole(kv_heads, 0),) * min(layers, _MOST_LAYERS)
    embedding = number("embedding_length")
    head = embedding // heads if heads else 0
    return Shape(
        kv_heads=kv_heads,
        key_length=number("attention.key_length") or head,
        value_length=number("attention.value_length") or head,
        embedding=embedding,
        feed_forward=number("feed_forward_length"),
        vocabulary=number("vocab_size") or _whole(values.get("tokenizer.ggml.tokens"), 0),
    )


def _largest(value: object) -> object:
    return max(value, default=0) if isinstance(value, tuple) else value


def _whole(value: object, default: int) -> int:
    return value if isinstance(value, int) else default
