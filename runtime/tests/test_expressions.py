"""The time that the runtime's regular expressions take for hostile text from users and providers."""

from __future__ import annotations

import importlib
import pkgutil
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import clawd_runtime

pytestmark = pytest.mark.slow

SIZE = 8000
SECONDS = 0.3
# Used only for texts of at most this size.
BOUNDED = {"bot.models.chat_chunks": 64, "reasoning.answer_text": 160}
# Not used to search: only to match from a given position.
ANCHORED = {"_BULLET", "_CONNECTING", "_LEADING", "_LEADING_BOS", "_PRELUDE", "_ROLE_FORM"}
MODULES = sorted(
    module.name.removeprefix("clawd_runtime.")
    for module in pkgutil.walk_packages(clawd_runtime.__path__, "clawd_runtime.")
    if not module.name.endswith("__main__")
)
Search = Callable[[str], Any]


def searches(module: str) -> Iterator[tuple[str, Search]]:
    """Yield the expressions of a module, each as it is used."""
    for name, value in vars(importlib.import_module(f"clawd_runtime.{module}")).items():
        for expression in within(value):
            yield expression_text(expression), use(expression, anchored=name in ANCHORED)


def expression_text(expression: re.Pattern[Any]) -> str:
    pattern = expression.pattern
    return pattern.decode("latin-1") if isinstance(pattern, bytes) else str(pattern)


def use(expression: re.Pattern[Any], *, anchored: bool = False) -> Search:
    """Return how a text is searched; one of bytes gets its UTF-8."""
    search = expression.match if anchored else lambda text: list(expression.finditer(text))
    return (lambda text: search(text.encode())) if isinstance(expression.pattern, bytes) else search


def within(value: object) -> Iterator[re.Pattern[Any]]:
    if isinstance(value, re.Pattern):
        yield value
    elif isinstance(value, tuple | list):
        for each in value:
            yield from within(each)
    elif isinstance(value, dict):
        yield from within(list(value.values()))


def texts(pattern: str, size: int) -> Iterator[str]:
    """Yield texts from the expression's own words and characters, each repeated in several ways."""
    words = set(re.findall(r"[A-Za-z_]{2,}|[\u4e00-\u9fff]+|[^\w\s]", pattern)) | set(" \n\t`.<a0")
    for word in words:
        for piece in (word, f"{word} ", f"{word}\n", f" {word}", f"{word}a"):
            yield (piece * size)[:size]
        for filler in " \n`.a<":
            yield (word + filler * size)[:size]
            yield (filler * size)[: size - len(word)] + word


def seconds_for(find: Search, text: str) -> float:
    """Return the processor time of a search: the minimum of up to five, because the machine is shared."""
    least = float("inf")
    for _ in range(5):
        started = time.thread_time()
        find(text)
        least = min(least, time.thread_time() - started)
        if least < SECONDS:
            break
    return least


@pytest.mark.parametrize("module", MODULES)
def test_expression_takes_bounded_time_for_hostile_text(module: str) -> None:
    for pattern, find in searches(module):
        for text in texts(pattern, BOUNDED.get(module, SIZE)):
            taken = seconds_for(find, text)
            assert taken < SECONDS, (pattern, text[:40], taken)


def test_expression_of_quadratic_time_is_found() -> None:
    assert seconds_for(re.compile(r"\s+$").search, " " * 2 * SIZE + "x") > SECONDS
