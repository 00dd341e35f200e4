"""How fast the engine is, compared with llama-server and others, over HTTP on this machine.

    make bench-engine
    python -m benchmarks.engine MODEL.gguf … [--clients 1 4 8 16 32] [--pairs 5] [--page FILE.md]

Each pair measures the engine and a peer one after the other, the second pair in the other order, and so on;
printed is the median of the pairs' ratios. Every client sends a system prompt of about 155 tokens that all
share and a question of its own of about 25 tokens, and takes 64 tokens. Warm: the servers know the system
prompt. Cold: every round has a system prompt of its own. No question is asked twice.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from benchmarks.engine import peers
from benchmarks.engine.load import Answer, Question, ask_all
from benchmarks.engine.servers import SERVERS, Server, Shape, serving

CONTEXT, ANSWER, PROMPT = 512, 64, 25
PEER = "llama-server"
_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Figures:
    """What one round of one server gave: all clients at once."""

    rate: float
    """Generated tokens a second of all clients, prompts included in the time."""
    first: float
    """Seconds to the first piece, of the slowest of a hundred."""
    gap: float
    """The longest pause of anybody, in seconds."""
    cpu: float
    """Seconds of processor time for each generated token."""

    @classmethod
    def of(cls, answers: Sequence[Answer], cpu: float) -> Figures:
        """Add up the answers of a round."""
        tokens = sum(answer.tokens for answer in answers)
        seconds = max(answer.pieces[-1] for answer in answers) - min(answer.began for answer in answers)
        firsts = sorted(answer.first for answer in answers)
        gaps = [gap for answer in answers for gap in answer.gaps]
        return cls(tokens / seconds, firsts[int(0.99 * (len(firsts) - 1))], max(gaps), cpu / tokens)


@dataclass(frozen=True, slots=True)
class Compared:
    """The medians of all pairs: ratios are those of the engine to the peer."""

    model: str
    state: str
    clients: int
    peer: str
    engine: Figures
    other: Figures
    rate: float
    first: float
    gap: float
    memory: float

    @classmethod
    def of(
        cls, what: tuple[str, str, int, str], pairs: Sequence[tuple[Figures, Figures]], memory: float
    ) -> Compared:
        """Return the medians of `pairs`."""

        def median(of: Callable[[Figures], float], side: int) -> float:
            return statistics.median(of(pair[side]) for pair in pairs)

        def figures(side: int) -> Figures:
            return Figures(
                median(lambda each: each.rate, side), median(lambda each: each.first, side),
                median(lambda each: each.gap, side), median(lambda each: each.cpu, side),
            )  # fmt: skip

        def ratio(of: Callable[[Figures], float]) -> float:
            return statistics.median(of(ours) / of(theirs) for ours, theirs in pairs)

        return cls(
            *what, figures(0), figures(1), ratio(lambda each: each.rate), ratio(lambda each: each.first),
            ratio(lambda each: each.gap), memory,
        )  # fmt: skip

    def row(self) -> str:
        """Return it as a row of the table."""
        return (
            f"| {self.model} | {self.state} | {self.clients} | {self.peer} "
            f"| {self.engine.rate:.0f} / {self.other.rate:.0f} | {self.rate:.2f} "
            f"| {1000 * self.engine.first:.0f} / {1000 * self.other.first:.0f} | {self.first:.2f} "
            f"| {self.gap:.2f} | {self.memory:.2f} |"
        )


HEAD = (
    "| model | prompt | clients | peer | tokens/s | ratio | first token p99, ms | ratio "
    "| longest gap, ratio | peak memory, ratio |\n|---|---|---|---|---|---|---|---|---|---|"
)


def system(number: int) -> str:
    """Return a system prompt of about 155 tokens; every number gives another one."""
    first = f"You are assistant number {number} of a small team. "
    return first + "Answer in full sentences, stay friendly, and never invent facts. " * 10


def questions(clients: int, turns: int, shared: str) -> list[list[Question]]:
    """Return questions that were never asked before, of every client."""

    def one() -> Question:
        number = next(_numbers)
        text = (
            f"Question {number}: please tell me a story about {number * 37} ships on the sea and their crews."
        )
        return Question(shared, text, ANSWER)

    return [[one() for _ in range(turns)] for _ in range(clients)]


def measure(server: Server, asked: list[list[Question]]) -> Figures:
    """Let all clients ask, and return the figures."""
    before = server.cpu_seconds()
    answers = ask_all(server.socket, asked)
    return Figures.of(answers, server.cpu_seconds() - before)


def compare(shape: Shape, peer: str, states: Sequence[str], pairs: int) -> Iterator[Compared]:
    """Measure the engine and a peer in turns."""
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        ours = running.enter_context(serving("clawd-engine", shape, folder / "engine"))
        theirs = running.enter_context(serving(peer, shape, folder / "peer"))
        shared = system(0)
        for server in (ours, theirs):
            measure(server, questions(shape.slots, 1, shared))
        for state in states:
            found = []
            for number in range(pairs):
                prompt = shared if state == "warm" else system(next(_numbers))
                asked = questions(shape.slots, 2 if state == "warm" else 1, prompt)
                order = (ours, theirs) if number % 2 == 0 else (theirs, ours)
                figures = {server.name: measure(server, asked) for server in order}
                found.append((figures[ours.name], figures[theirs.name]))
            memory = ours.peak_megabytes() / theirs.peak_megabytes()
            yield Compared.of((shape.model.stem, state, shape.slots, peer), found, memory)


def ceiling(shape: Shape) -> float:
    """Return the generated tokens a second of llama-batched-bench, which has neither HTTP nor samplers."""
    done = subprocess.run(
        [
            *(str(peers.programs() / "llama-batched-bench"), "-m", str(shape.model)),
            *("-c", str(shape.context * shape.slots), "-t", str(shape.threads), "-tb", str(shape.threads)),
            *("-npp", str(PROMPT), "-ntg", str(ANSWER), "-npl", str(shape.slots), "--output-format", "jsonl"),
        ],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    line = next(line for line in done.stdout.splitlines() if line.startswith("{"))
    return shape.slots * ANSWER / float(json.loads(line)["t"])


def machine() -> str:
    """Return what this machine is."""
    info = Path("/proc/cpuinfo").read_text()
    name = next((line.partition(":")[2].strip() for line in info.splitlines() if "model name" in line), "")
    return f"{os.cpu_count()} × {name or platform.machine()}"


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 8, 16, 32])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--peers", nargs="+", choices=[*SERVERS][1:], default=[*SERVERS][1:])
    parser.add_argument("--page", type=Path, help="a page of the documentation to write the table into")
    given = parser.parse_args()
    threads = len(os.sched_getaffinity(0))
    rows = []
    print(HEAD)
    for model in given.models:
        for clients in given.clients:
            shape = Shape(model.resolve(), clients, CONTEXT, threads)
            for peer in given.peers:
                states = ("warm", "cold") if peer == PEER else ("warm",)
                for found in compare(shape, peer, states, given.pairs):
                    rows.append(found.row())
                    print(rows[-1], flush=True)
        best = ceiling(shape)
        rows.append(f"\nCeiling of {model.stem} at {clients} (llama-batched-bench): {best:.0f} tokens/s")
        print(rows[-1], flush=True)
    if given.page:
        given.page.write_text(page(rows, given.pairs), encoding="utf-8")


def page(rows: Sequence[str], pairs: int) -> str:
    """Return the page of the documentation with the table."""
    where = f"{machine()}, {datetime.now(UTC):%Y-%m-%d}"
    return PAGE.format(pairs=pairs, where=where, prompt=PROMPT, answer=ANSWER, rows="\n".join((HEAD, *rows)))


PAGE = """# The engine in figures

Written by `make bench-engine`; do not edit. Ratios are those of the engine to the peer, the medians of
{pairs} alternated pairs: more is better for tokens/s, less for the others. Tokens/s and first tokens are
engine / peer.

Machine: {where}. All clients share a system prompt of about 155 tokens; each asks a question of about
{prompt} tokens and takes {answer} tokens.

{rows}
"""


if __name__ == "__main__":
    main()
