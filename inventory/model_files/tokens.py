"""Estimate of the number of tokens of a text for a model, from the vocabulary in its file.

The tokenizers of chat models are reproduced: bytes merged in order (`gpt2`), characters merged by score
(`llama`), characters merged in order (`gemma4`). How a text is split into words before that differs between
models; the split here is about as fine as the finest of them, so the result is rather too high than too low.
Measured against llama.cpp on its own test vocabularies, in English, Chinese and other languages, code, JSON
and numbers: exact for `llama` and `gemma4`, 0.83 to 2.6 times the true number for `gpt2` (at least 0.99,
except for three tokenizers of 2022 and 2023). The margins cover that. For any other tokenizer, and for a
model whose file is not on this machine, tokens are estimated (`estimated`): about as many as current
tokenizers need, which the bot reckons with, too, and as many as a tokenizer may need that lacks the letters.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from heapq import heappop, heappush
from pathlib import Path
from typing import Protocol

from inventory.model_files.gguf import Vocabulary, read_vocabulary

SPACE = "▁"
LETTERS_A_TOKEN = 3
BYTES_A_TOKEN = 3
"""As the bot estimates (`clawd_runtime.bot.models.prompt_budget`): one Chinese character a token."""

# A word with the space before it, one digit, punctuation, spaces.
_WORDS = re.compile(r"'(?:[sdmt]|ll|ve|re)| ?[^\W\d_]+| ?\d| ?[^\s\w]+|_+|\s+(?!\S)|\s")
_SPACED = re.compile(r" *[^ ]+| +")


@dataclass(frozen=True, slots=True)
class TokenCount:
    """The number of tokens of a text: `likely`, and at `most`."""

    likely: int
    most: int


class Tokenizer(Protocol):
    """The merge rules of one kind of tokenizer.

    `margin` is the factor from the counted tokens to the most; `is_exact` is false if they may be too many.
    """

    margin: float
    is_exact: bool

    def pieces(self, text: str) -> Iterable[str]:
        """Return the parts of a text; nothing is merged across their borders."""

    def rank(self, left: str, right: str) -> float | None:
        """Return the rank of merging two neighbours, the lowest first; `None` when they are not merged."""

    def tokens(self, symbol: str) -> int:
        """Return the number of tokens of one symbol after all merges."""


class BytePairs:
    """The tokenizer `gpt2`: bytes, represented as characters, merged in the order of the file."""

    margin = 1.2
    is_exact = False

    def __init__(self, merges: tuple[str, ...]) -> None:
        self._order = _order(merges)

    def pieces(self, text: str) -> Iterable[str]:
        """Return the words, each byte represented as a character."""
        return ["".join(map(_LETTERS.__getitem__, word.encode())) for word in _WORDS.findall(text)]

    def rank(self, left: str, right: str) -> float | None:
        """Return the position of the pair in the file."""
        return self._order.get((left, right))

    def tokens(self, symbol: str) -> int:
        """Return 1: every symbol is in the vocabulary."""
        return 1


class Letters:
    """The tokenizers `llama` and `gemma4`: characters merged by the score of the result or by file order."""

    margin = 1.05
    is_exact = True

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._order = _order(vocabulary.merges)
        scores = vocabulary.scores or (0.0,) * len(vocabulary.tokens)
        self._scores = dict(zip(vocabulary.tokens, scores, strict=True))

    def pieces(self, text: str) -> Iterable[str]:
        """Return the words with the spaces before them; the text is prefixed with a space."""
        return [word.replace(" ", SPACE) for word in _SPACED.findall(f" {text}")]

    def rank(self, left: str, right: str) -> float | None:
        """Return the position of the pair in the file, or the negative score of the merged symbol."""
        if self._order:
            return self._order.get((left, right))
        score = self._scores.get(left + right)
        return None if score is None else -score

    def tokens(self, symbol: str) -> int:
        """Return 1 for a symbol in the vocabulary, else its number of bytes."""
        return 1 if symbol in self._scores else len(symbol.encode())


def most_tokens(text: str) -> int:
    """Return an upper bound for any tokenizer: one for each byte, and one for a space before the text."""
    return len(text.encode()) + 1


def estimated(text: str) -> TokenCount:
    """Return the estimated tokens of a text for a tokenizer that is not known here.

    Likely are those of the bot's own estimate. At most, letters of ASCII make words, of three letters a token
    at least on average, and digits, signs, and every byte of other letters count as a token each: tokenizers
    that know no Chinese write it in bytes.
    """
    length = len(text.encode())
    in_words = sum(letter.isascii() and (letter.isalpha() or letter == " ") for letter in text)
    most = -(-in_words // LETTERS_A_TOKEN) + length - in_words + 1
    return TokenCount(min(-(-length // BYTES_A_TOKEN), most), most)


def token_count(text: str, path: Path) -> TokenCount:
    """Return the tokens of `text` for the model at `path`.

    Raises `ArtifactError` when the file cannot be read.
    """
    status = path.stat()
    return count(text, _tokenizer(path, status.st_size, status.st_mtime_ns))


def count(text: str, tokenizer: Tokenizer | None) -> TokenCount:
    """Return the tokens of `text`; estimated for an unknown tokenizer."""
    if tokenizer is None:
        return estimated(text)
    known: dict[str, int] = {}
    total = 0
    for piece in tokenizer.pieces(text):
        if piece not in known:
            known[piece] = sum(map(tokenizer.tokens, merged(list(piece), tokenizer)))
        total += known[piece]
    most = min(math.ceil(total * tokenizer.margin) + 1, most_tokens(text))
    likely = total if tokenizer.is_exact else min(total, estimated(text).likely)
    return TokenCount(min(likely, most), most)


def merged(symbols: list[str], tokenizer: Tokenizer) -> list[str]:
    """Return the symbols after all merges: the pair of lowest rank first, among equal ranks the leftmost."""
    following = [*range(1, len(symbols)), -1]
    preceding = [-1, *range(len(symbols) - 1)]
    waiting: list[tuple[float, int, str, str]] = []

    def offer(left: int, right: int) -> None:
        if left >= 0 and right >= 0:
            order = tokenizer.rank(symbols[left], symbols[right])
            if order is not None:
                heappush(waiting, (order, left, symbols[left], symbols[right]))

    for place in range(len(symbols) - 1):
        offer(place, place + 1)
    while waiting:
        _, place, left, right = heappop(waiting)
        other = following[place]
        # Skip an offer whose symbols have been merged since.
        if other < 0 or symbols[place] != left or symbols[other] != right:
            continue
        symbols[place], symbols[other] = left + right, ""
        following[place] = following[other]
        if following[other] >= 0:
            preceding[following[other]] = place
        following[other] = -1
        offer(preceding[place], place)
        offer(place, following[place])
    return [symbol for symbol in symbols if symbol]


def tokenizer_of(vocabulary: Vocabulary) -> Tokenizer | None:
    """Return the tokenizer of a vocabulary; `None` for a kind that is not reproduced here."""
    if vocabulary.model == "gpt2" and vocabulary.merges:
        return BytePairs(vocabulary.merges)
    ordered = vocabulary.model == "gemma4" and bool(vocabulary.merges)
    scored = vocabulary.model == "llama" and len(vocabulary.scores) == len(vocabulary.tokens) > 0
    if ordered or scored:
        return Letters(vocabulary)
    return None


def _order(merges: tuple[str, ...]) -> Mapping[tuple[str, str], int]:
    pairs = (merge.partition(" ") for merge in merges)
    return {(left, right): place for place, (left, _, right) in enumerate(pairs)}


def _letters() -> dict[int, str]:
    """Return the character that represents each byte in vocabularies of the kind `gpt2`.

    Source: https://github.com/openai/gpt-2/blob/master/src/encoder.py, `bytes_to_unicode`.
    """
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in shown]
    return {byte: chr(byte) for byte in shown} | {byte: chr(256 + place) for place, byte in enumerate(others)}


_LETTERS = _letters()


@lru_cache(maxsize=2)
def _tokenizer(path: Path, size: int, changed: int) -> Tokenizer | None:
    """Return the tokenizer of `path`; read again only when the file changes."""
    return tokenizer_of(read_vocabulary(path))
