"""Measure what the policy costs: processor time for 100 characters of an answer, and memory.

    python runtime/benchmarks/policy_speed.py [--words 100000]

The words are drawn at random from common characters, so that most beginnings of words occur in the answer and
more is held back than with real lists. An answer arrives in pieces of two characters, as models send it.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from clawd_runtime.bot.policy.file import compiled
from clawd_runtime.bot.policy.stage import WordStage
from clawd_runtime.bot.policy.words import WordLists

COMMON = [chr(code) for code in range(0x4E00, 0x9FA0) if chr(code).encode("gb2312", "ignore")][:3500]
LETTERS = "etaoinshrdlu"
ANSWER = 20_000
PIECE = 2
ROUNDS = 5


def resident() -> float:
    """Return the resident memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def random_words(count: int, chance: random.Random) -> list[str]:
    """Return different words, one in five of them Latin."""
    found: set[str] = set()
    while len(found) < count:
        alphabet, lengths = (LETTERS, (6, 7, 8, 9)) if chance.random() < 0.2 else (COMMON, (2, 3, 4, 4, 5, 6))
        found.add("".join(chance.choices(alphabet, k=chance.choice(lengths))))
    return sorted(found)


def milliseconds(work: Callable[[], object]) -> float:
    """Return the least processor time of the work, for 100 characters of the answer."""
    times = []
    for _ in range(ROUNDS):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return min(times) * 1000 / (ANSWER / 100)


def streamed(words: WordLists, text: str) -> None:
    """Check an answer that arrives in pieces."""
    stage = WordStage(words)
    for start in range(0, len(text), PIECE):
        stage.feed(text[start : start + PIECE])
    stage.finish()


def whole(words: WordLists, text: str) -> None:
    """Check a whole answer."""
    stage = WordStage(words)
    stage.feed(text)
    stage.finish()


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--words", type=int, default=100_000)
    count = parser.parse_args().words
    chance = random.Random(1)  # noqa: S311 - the same words in every run
    raw = json.dumps({"words": [{"name": "words", "words": random_words(count, chance)}]}).encode()
    text = "".join(chance.choices(COMMON + list("，。 abcdefghij"), k=ANSWER))
    before, started = resident(), time.perf_counter()
    policy = compiled(raw, {})
    print(f"{count} words: loaded in {time.perf_counter() - started:.2f} s, {resident() - before:.0f} MB")
    for name, work in (("streamed", streamed), ("whole", whole)):
        print(f"{name}: {milliseconds(lambda work=work: work(policy.words, text)):.3f} ms for 100 characters")


if __name__ == "__main__":
    main()
