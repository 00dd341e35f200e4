"""First token of a conversation that comes back after many others, against reading it again.

    python runtime/benchmarks/returning_conversation.py MODEL.gguf [--tokens 500] [--new 10] [--others 500]
        [--other-tokens 64] [--rounds 7] [--slots 4]

Some conversations are had, then many others. Then each comes back with a short message. Printed are the
medians of the time to the first token: reading it again, and restored from memory, from a file, and from
a file by a new engine with the same folder; how many times faster that is, and how long a save or restore
keeps other answers waiting. That answers are the same is tested, not measured.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from clawd_runtime.engine.batching.batcher import Batcher
from clawd_runtime.engine.jobs import conversation_digest
from clawd_runtime.engine.llama.backends import load_backends
from clawd_runtime.engine.llama.cpus import usable_cpus
from clawd_runtime.engine.llama.model import LlamaModel
from clawd_runtime.engine.metrics import EngineMetrics
from clawd_runtime.engine.states.files import StateFiles, StateOrigin
from clawd_runtime.engine.states.store import StateStore
from clawd_runtime.engine.states.values import StateBudget
from clawd_runtime.engine.values import AnswerJob, Delta, Event, Finished, SamplingParameters

CONTEXT = 2048
ANSWER = 8
_WORDS = ("red", "blue", "old", "new", "good", "late", "far")
LARGE, SMALL = 8 << 30, 96 << 20
"""Memory for all states, and for so few that the conversation has left it."""


@dataclass
class Caller:
    """One request: when its first token came, and its text."""

    text: str = ""
    first: float = 0.0
    reused: int = 0
    ended: threading.Event = field(default_factory=threading.Event)

    def take(self, event: Event) -> None:
        """Receive an event of the answer."""
        self.first = self.first or time.monotonic()
        if isinstance(event, Delta):
            self.text += event.text
        else:
            self.reused = event.usage.reused if isinstance(event, Finished) else -1
            self.ended.set()


def ask(batcher: Batcher, prompt: tuple[int, ...], name: str, tokens: int = ANSWER) -> tuple[float, Caller]:
    """Return the seconds to the first token, and the answer."""
    caller, began = Caller(), time.monotonic()
    job = AnswerJob(prompt, tokens, SamplingParameters(temperature=0), conversation=conversation_digest(name))
    batcher.submit(job, caller.take)
    if not caller.ended.wait(300):
        raise RuntimeError("no answer")
    return caller.first - began, caller


@contextmanager
def engine(
    path: Path, slots: int, memory: int, folder: Path | None
) -> Iterator[tuple[Batcher, EngineMetrics, LlamaModel]]:
    """Run an engine with this much memory for states, and files in `folder`."""
    model = LlamaModel(path, context_size=CONTEXT, parallel=slots, threads=usable_cpus())
    metrics = EngineMetrics()
    files = None if folder is None else StateFiles(folder, StateOrigin(path, model.state_parameters))
    store = StateStore(StateBudget(memory, disk=32 << 30 if folder else 0), metrics, files)
    batcher = Batcher(model, metrics, queue=8, on_fault=lambda fault: None, store=store)
    batcher.start()
    try:
        yield batcher, metrics, model
    finally:
        batcher.stop()
        model.close()


def words(model: LlamaModel, seed: int, count: int) -> tuple[int, ...]:
    """Return a prompt of `count` tokens."""
    text = " ".join(f"{_WORDS[(seed + each) % len(_WORDS)]} {seed * 31 + each}" for each in range(count))
    return model.tokenize(text)[:count]


def mean_stall(metrics: EngineMetrics) -> float:
    """Return the mean of the saves and restores in seconds, in which all answers wait."""
    lines = dict(line.rsplit(" ", 1) for line in metrics.text().decode().splitlines() if line[0] != "#")
    found = [(name, float(value)) for name, value in lines.items() if "state_seconds" in name]
    total = sum(value for name, value in found if "_sum" in name)
    return total / max(1.0, sum(value for name, value in found if "_count" in name))


@dataclass(frozen=True)
class Kind:
    """A way in which a conversation comes back."""

    title: str
    memory: int = SMALL
    files: bool = True
    restarted: bool = False


KINDS = (
    Kind("read again", memory=0, files=False),
    Kind("from memory", memory=LARGE, files=False),
    Kind("from a file", memory=SMALL),
    Kind("after a restart", memory=SMALL, restarted=True),
)


def prepare(batcher: Batcher, model: LlamaModel, given: argparse.Namespace) -> None:
    """Have the conversations, and then the others."""
    for number in range(given.rounds):
        ask(batcher, words(model, number, given.tokens), f"conversation {number}")
    for number in range(given.others):
        ask(batcher, words(model, 10**7 + number, given.other_tokens), f"other {number}", 1)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    for name, value in (("tokens", 500), ("new", 10), ("others", 500), ("other-tokens", 64)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--slots", type=int, default=4)
    given = parser.parse_args()
    load_backends()
    seconds: dict[str, list[float]] = {kind.title: [] for kind in KINDS}
    reused: dict[str, list[int]] = {kind.title: [] for kind in KINDS}
    stalls: dict[str, float] = {}
    with ExitStack() as stack:
        engines = []
        for kind in KINDS:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) if kind.files else None
            if kind.restarted:
                with engine(given.model, given.slots, kind.memory, folder) as (batcher, _, model):
                    prepare(batcher, model, given)
            started = stack.enter_context(engine(given.model, given.slots, kind.memory, folder))
            if kind.memory and not kind.restarted:
                prepare(started[0], started[2], given)
            engines.append((kind, started))
        time.sleep(2)  # the files are found
        # In turn, so that other load on the machine slows all of them.
        for number in range(given.rounds):
            for kind, (batcher, _, model) in engines:
                prompt = (*words(model, number, given.tokens), *words(model, 10**6 + number, given.new))
                took, caller = ask(batcher, prompt, f"conversation {number}")
                seconds[kind.title].append(took)
                reused[kind.title].append(caller.reused)
        for kind, (_, metrics, _) in engines:
            stalls[kind.title] = mean_stall(metrics)
    again = statistics.median(seconds["read again"])
    print(f"{'':16} first token ms   times faster   tokens reused   save or restore ms")
    for title, measured in seconds.items():
        median = statistics.median(measured)
        print(
            f"{title:16} {1e3 * median:14.1f} {again / median:14.1f} {min(reused[title]):15} "
            f"{1e3 * stalls[title]:20.2f}"
        )


if __name__ == "__main__":
    main()
