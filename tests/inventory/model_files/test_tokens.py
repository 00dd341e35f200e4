"""Counting the tokens of a text on the laptop."""

from __future__ import annotations

import atexit
import os
import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clawd_runtime.bot.models.prompt_budget import TOKENS_A_MESSAGE, token_estimate
from inventory.model_files.gguf import Vocabulary
from inventory.model_files.tokens import (
    TokenCount,
    Tokenizer,
    count,
    merged,
    most_tokens,
    token_count,
    tokenizer_of,
)
from inventory.rules import services
from tests.deploys.inventories import inventory

MODEL = Path(os.environ.get("CLAWD_TEST_MODEL") or "none")
ROOT = Path(__file__).resolve().parents[3]
WORDS = Vocabulary("llama", ("▁", "h", "i", "hi", "▁hi"), (-9.0, -9.0, -9.0, -1.0, -2.0))


def tokenizer(vocabulary: Vocabulary) -> Tokenizer:
    found = tokenizer_of(vocabulary)
    assert found is not None
    return found


def test_bpe_merges_pairs_in_the_order_of_the_vocabulary() -> None:
    known = tokenizer(Vocabulary("gpt2", merges=("b c", "a b", "a bc")))
    assert merged(list("abc"), known) == ["abc"]
    assert merged(list("ab"), known) == ["ab"]
    assert merged(list("aabb"), known) == ["a", "ab", "b"]


def test_sentencepiece_merges_pieces_by_score() -> None:
    known = tokenizer(WORDS)
    assert merged(list("▁hi"), known) == ["▁hi"]
    assert count("hi hi", known) == TokenCount(2, 4)  # a margin, and one to spare


def test_text_outside_the_vocabulary_counts_its_bytes() -> None:
    assert count("你", tokenizer(WORDS)) == TokenCount(4, most_tokens("你"))


def test_count_of_finely_split_words_is_at_most_the_estimate() -> None:
    known = tokenizer(Vocabulary("gpt2", merges=("a b",)))
    assert count("1999" * 3, known) == TokenCount(4, 13)
    assert count("ab", known) == TokenCount(1, 3)


@pytest.mark.parametrize("model", ["bert", "t5", "rwkv", ""])
def test_count_is_estimated_for_an_unknown_tokenizer(model: str) -> None:
    assert tokenizer_of(Vocabulary(model, ("a",), (0.0,))) is None
    assert count("abc 你", None) == TokenCount(3, 1 + 2 + 3)
    assert count("1999-12", None) == TokenCount(3, 1 + 7)
    assert count("", None) == TokenCount(0, 1)


@pytest.mark.parametrize("text", ["a" * 50_000, "你" * 20_000, " " * 50_000, "ab" * 20_000])
def test_long_text_without_spaces_is_counted_in_time(text: str) -> None:
    begun = time.process_time()
    for known in (Vocabulary("gpt2", merges=("a a", "aa aa", "a b")), WORDS):
        counted = count(text, tokenizer(known))
        assert 0 < counted.likely <= counted.most <= most_tokens(text)
    assert time.process_time() - begun < 10


@cache
def real() -> Any:
    llama_cpp = pytest.importorskip("llama_cpp")
    loaded = llama_cpp.Llama(str(MODEL), vocab_only=True, verbose=False)
    atexit.register(loaded.close)  # Python's own order at the end is too late for it
    return loaded


def exact(text: str) -> int:
    return len(real().tokenize(text.encode(), add_bos=False, special=False))


@pytest.mark.model
@pytest.mark.parametrize("name", ["README.md", "README.zh.md", "cli.py", "inventory/schema.json"])
def test_count_is_an_upper_bound_of_real_tokens_for_pages_of_the_repository(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")[:8000]
    assert exact(text) <= token_count(text, MODEL).most <= 1.3 * exact(text)
    assert token_count(text, MODEL).likely <= 1.1 * exact(text)


@pytest.mark.model
@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200) | st.text("ab 1\n.'é你😀_-", max_size=200))
def test_count_is_an_upper_bound_of_real_tokens_for_any_text(text: str) -> None:
    assert exact(text) <= token_count(text, MODEL).most <= most_tokens(text)


CHINESE = (
    "你好" * 400,
    "请用中文回答团队的问题，简短而礼貌。" * 20,
    "答え：はい。" * 100,
    "ответ — да. " * 80,
)
SHA256 = "ab" * 32


@pytest.mark.parametrize("text", CHINESE)
@pytest.mark.parametrize(
    "model",
    [
        {"engine": "llama-cpp", "path": "m.gguf", "url": "https://x.example/m.gguf", "sha256": SHA256},
        {"engine": "openai-compatible", "endpoint": "https://x.example/v1"},
    ],
)
def test_prompt_check_is_the_same_for_every_model_with_unknown_tokenizer(
    text: str, model: dict[str, Any]
) -> None:
    tokens = count(text, None)
    rest = 512 + 512 + 128
    sizes = {
        tokens.most + rest: [],
        tokens.most + rest - 1: [True],
        tokens.likely + rest: [True],
        tokens.likely + rest - 1: [False],
    }
    assert len(sizes) == 4
    for size, warnings in sizes.items():
        declared = inventory(models={"default": {**model, "context_size": size}}, bot={"system_prompt": text})
        found = [finding for finding in services.models(declared) if "fit a context" in finding.problem]
        assert [finding.is_warning for finding in found] == warnings


@pytest.mark.parametrize("text", CHINESE)
def test_estimate_of_chinese_text_is_at_least_85_percent_of_its_bytes(text: str) -> None:
    assert count(text, None).most >= len(text.encode()) * 0.85
    assert count("You answer the questions of a team, briefly and politely. " * 9, None).most < 58 * 9 / 2


@pytest.mark.parametrize("text", [*CHINESE, "You answer.", "x"])
def test_likely_count_equals_the_estimate_of_the_bot(text: str) -> None:
    assert count(text, None).likely == token_estimate(text) - TOKENS_A_MESSAGE
