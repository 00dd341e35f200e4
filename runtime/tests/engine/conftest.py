"""A model without weights for the unit tests, and the real one for those marked `model`."""

from __future__ import annotations

import importlib.util
import json
import mmap
import os
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from clawd_runtime.engine.batching.computer import Feed, StepInterrupted
from clawd_runtime.engine.grammar.constraint import Constraint
from clawd_runtime.engine.settings import EngineSettings
from clawd_runtime.engine.values import SamplingParameters, TokenLogprob
from clawd_runtime.errors import EngineError

REPOSITORY = Path(__file__).parents[3]
# These import llama.cpp; `make test-quick` works before it is built, `make test` builds it first.
_NEED_IT = ["test_gpu.py", "llama/test_model.py"]
collect_ignore = [] if importlib.util.find_spec("llama_cpp") else _NEED_IT
END = 256
BYTES_PER_TOKEN = 64
"""Bytes of a token in a saved state of the model without weights."""


def next_token(held: Sequence[int]) -> int:
    """Return the next token of the model without weights: it depends on each token and their order."""
    digest = zlib.crc32(bytes(str(list(held)), "ascii"))
    return END if digest % 12 == 0 else ord("a") + digest % 26


def expected_answer(prompt: Sequence[int], max_tokens: int) -> str:
    """Return the answer of the model without weights to `prompt` without other sequences."""
    held, text = list(prompt), ""
    for _ in range(max_tokens):
        token = next_token(held)
        if token == END:
            break
        held.append(token)
        text += chr(token)
    return text


class FakeModel:
    """A model that computes `next_token`, as strict about positions, order and capacity as llama.cpp."""

    chat_template = (
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    bos = ""
    eos = ""

    def __init__(self, *, parallel: int = 3, context_size: int = 512, capacity: int = 64) -> None:
        self.parallel, self.context_size, self.capacity = parallel, context_size, capacity
        self.held: list[list[int]] = [[] for _ in range(parallel)]
        self.drawing: set[int] = set()
        self.ready: set[int] = set()
        self.steps: list[tuple[Feed, ...]] = []
        self.fail_next = self.refuse_states = False
        self.saves = self.restores = self.interruptions = 0
        self.before_step = lambda: None
        self.closed = False

    def step(self, feeds: Sequence[Feed]) -> None:
        self.interrupted = False
        self.before_step()
        if self.interrupted:
            lost = [] if self.divisible else [feed.seq for feed in feeds if feed.position]
            for seq in lost:
                self.held[seq] = []
            self.interruptions += 1
            raise StepInterrupted(lost)
        if self.fail_next:
            self.fail_next = False
            raise EngineError("failure of the test")
        assert feeds
        assert [feed.seq for feed in feeds] == sorted({feed.seq for feed in feeds}), "out of order"
        assert sum(len(feed.tokens) for feed in feeds) <= self.capacity
        self.ready = set()
        for feed in feeds:
            held = self.held[feed.seq]
            assert feed.tokens
            assert feed.position == len(held), "positions must follow one another"
            held.extend(feed.tokens)
            assert len(held) <= self.context_size, "the context is full"
            if feed.draw:
                self.ready.add(feed.seq)
        self.steps.append(tuple(feeds))

    def interrupt(self) -> None:
        self.interrupted = True

    def draw(self, seq: int, constraint: Constraint | None = None) -> int:
        assert seq in self.ready
        assert seq in self.drawing
        self.ready.remove(seq)
        return next_token(self.held[seq])

    def logprob(self, seq: int, token: int, top: int) -> TokenLogprob:
        others = tuple((bytes([other]), -float(other)) for other in range(top))
        return TokenLogprob(self.piece(token), -0.5, others)

    def begin(self, seq: int, sampling: SamplingParameters) -> None:
        assert seq not in self.drawing
        self.drawing.add(seq)

    def end(self, seq: int) -> None:
        self.drawing.discard(seq)

    def keep(self, seq: int, count: int) -> int:
        assert count <= len(self.held[seq])
        del self.held[seq][count:]
        return count

    def copy(self, source: int, target: int, count: int) -> int:
        assert source != target
        assert count <= len(self.held[source])
        self.held[target] = self.held[source][:count]
        return count

    divisible = True
    state_parameters: ClassVar[dict[str, object]] = {"of": "the fake"}

    def state_size(self, seq: int) -> int:
        return 4 + BYTES_PER_TOKEN * len(self.held[seq])

    def save(self, seq: int, state: mmap.mmap) -> bool:
        held = self.held[seq]
        state[:4] = len(held).to_bytes(4, "little")
        for index, token in enumerate(held):
            at = 4 + BYTES_PER_TOKEN * index
            state[at : at + 4] = token.to_bytes(4, "little")
        self.saves += 1
        return True

    def restore(self, seq: int, state: mmap.mmap, size: int) -> bool:
        assert seq not in self.drawing
        self.held[seq] = []
        if self.refuse_states:
            return False
        count = int.from_bytes(state[:4], "little")
        assert size == 4 + BYTES_PER_TOKEN * count
        self.held[seq] = [
            int.from_bytes(state[at : at + 4], "little") for at in range(4, size, BYTES_PER_TOKEN)
        ]
        self.restores += 1
        return True

    def piece(self, token: int) -> bytes:
        return b"" if token == END else bytes([token])

    def ends_answer(self, token: int) -> bool:
        return token == END

    vocabulary_size = 257
    longest_token = 1

    def tokenize(self, *pieces: str) -> tuple[int, ...]:
        return tuple("".join(pieces).encode())

    def open_embedder(self) -> FakeEmbedder:
        self.embedder = FakeEmbedder()
        return self.embedder

    def plain_tokens(self, text: str, *, begin: bool) -> tuple[int, ...]:
        return tuple(text.encode(errors="replace"))

    def whole_piece(self, token: int) -> bytes:
        return b"<end>" if token == END else bytes([token])

    def added_texts(self) -> Iterable[str]:
        return []

    def write_out(self, texts: Iterable[str]) -> None:
        self.written_out = set(texts)

    def control_texts(self) -> Iterable[str]:
        return ["<assistant>", "<user>", "<system>"]

    def close(self) -> None:
        self.closed = True


class FakeEmbedder:
    """Embeds a text by counting its bytes, modulo 4."""

    dimensions = 4

    def __init__(self) -> None:
        self.before = lambda: None
        self.closed = False

    def embed(self, tokens: Sequence[int]) -> Any:
        import numpy as np

        assert not self.closed
        self.before()
        counts = np.bincount(np.array(tokens) % 4, minlength=4).astype(np.float32)
        return counts / np.linalg.norm(counts)

    def close(self) -> None:
        self.closed = True


@pytest.fixture(scope="session")
def fake_model() -> type[FakeModel]:
    return FakeModel


@pytest.fixture(scope="session")
def answer_of():
    return expected_answer


@pytest.fixture
def settings(tmp_path: Path) -> EngineSettings:
    return EngineSettings(
        socket=str(tmp_path / "engine.sock"),
        model="/models/fake.gguf",
        model_name="fake",
        context_size=512,
        parallel=3,
        queue=2,
    )


@pytest.fixture(scope="session")
def model_path() -> Path:
    """Return the real model; these tests fail without one, because only they show that answers are right."""
    named = os.environ.get("CLAWD_TEST_MODEL")
    if named:
        path = Path(named)
        if not path.is_file():
            pytest.fail(f"CLAWD_TEST_MODEL names {path}, which is no file", pytrace=False)
        return path
    found = sorted((REPOSITORY / ".sandbox" / "models").glob("*.gguf"))
    if not found:
        pytest.fail(
            "no model for the tests: run `make up` once, or set CLAWD_TEST_MODEL to an instruct GGUF",
            pytrace=False,
        )
    return found[0]


@pytest.fixture(scope="session")
def within(model_path: Path):
    """Return a function from a grammar to the texts it matches, with the vocabulary of the real model."""
    from clawd_runtime.engine.grammar.worker import TokenVocabulary
    from tests.engine.grammars import Matches

    vocabulary = TokenVocabulary(str(model_path))
    return lambda grammar: Matches(vocabulary, grammar)


@pytest.fixture
def write_settings(tmp_path: Path):
    def write(model: Path, **changes: object) -> Path:
        values = {
            "socket": str(tmp_path / "engine.sock"),
            "model": str(model),
            "model_name": "m",
            "context_size": 1024,
            "parallel": 4,
        }
        path = tmp_path / "engine.json"
        path.write_text(json.dumps(values | changes))
        return path

    return write
