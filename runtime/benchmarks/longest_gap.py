"""Pauses in answers while the engine reads a long prompt, and how long a short question behind it waits.

    python runtime/benchmarks/longest_gap.py MODEL.gguf [--writers 1 4 8] [--prompt 2000] [--rounds 3]

Some callers write long answers. Then one caller sends a long prompt, and another one a short question.
Printed for each number of writers: the median pause between two pieces of an answer, the longest one of
anybody, their ratio, and the seconds until the first piece of the long prompt's answer and of the short
question's. Texts differ in every round.
"""

from __future__ import annotations

import argparse
import queue
import statistics
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from clawd_runtime.engine.batching.batcher import Batcher
from clawd_runtime.engine.llama.backends import load_backends
from clawd_runtime.engine.llama.cpus import usable_cpus
from clawd_runtime.engine.llama.model import LlamaModel
from clawd_runtime.engine.metrics import EngineMetrics
from clawd_runtime.engine.values import AnswerJob, Delta, Event, SamplingParameters

CONTEXT = 4096
WRITTEN = 400
"""Tokens of the answers that are being written."""
WARM_UP_S = 1.0


@dataclass
class Caller:
    """One request: when its pieces came."""

    batcher: Batcher
    prompt: tuple[int, ...]
    tokens: int
    times: list[float] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    began: float = 0.0

    def start(self) -> None:
        """Send the request."""
        self.began = time.monotonic()
        # No end of the answer is drawn: every answer has as many tokens as it may.
        job = AnswerJob(self.prompt, self.tokens, SamplingParameters(temperature=0.7, seed=len(self.prompt)))
        self.batcher.submit(job, self._take)

    def _take(self, event: Event) -> None:
        if isinstance(event, Delta):
            self.times.append(time.monotonic())
        else:
            self.ended.set()

    @property
    def first(self) -> float:
        """Seconds until the first piece."""
        return self.times[0] - self.began if self.times else float("nan")


def measure(model: LlamaModel, writers: int, length: int, number: int) -> tuple[float, float, float, float]:
    """Return the median and the longest pause, and the seconds to the first piece of both further answers."""
    broken: queue.Queue[BaseException] = queue.Queue()
    batcher = Batcher(model, EngineMetrics(), queue=8, on_fault=broken.put)
    batcher.start()
    try:
        writing = [
            Caller(batcher, model.tokenize(f"Tell a very long story, number {number * 50 + each}:"), WRITTEN)
            for each in range(writers)
        ]
        for caller in writing:
            caller.start()
        time.sleep(WARM_UP_S)
        words = " ".join(f"word{number}x{each}" for each in range(length))
        long = Caller(batcher, model.tokenize(words)[:length], 8)
        short = Caller(batcher, model.tokenize(f"Question {number}: what is the capital of France?"), 8)
        long.start()
        time.sleep(0.05)
        short.start()
        for caller in (*writing, long, short):
            caller.ended.wait(300)
    finally:
        batcher.stop()
    if not broken.empty():
        raise broken.get()
    pauses = [
        later - earlier
        for caller in writing
        for earlier, later in zip(caller.times, caller.times[1:], strict=False)
    ]
    return statistics.median(pauses), max(pauses), long.first, short.first


def main() -> None:
    """Measure, and print the medians of all rounds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--writers", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--prompt", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    load_backends()
    print("writers   median ms   longest ms   ratio   long prompt s   short question s")
    for writers in given.writers:
        model = LlamaModel(given.model, context_size=CONTEXT, parallel=writers + 2, threads=usable_cpus())
        rounds = [measure(model, writers, given.prompt, number) for number in range(given.rounds)]
        model.close()
        median, longest, long, short = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(
            f"{writers:7} {1e3 * median:11.1f} {1e3 * longest:12.1f} {longest / median:7.1f} "
            f"{long:15.2f} {short:18.2f}"
        )


if __name__ == "__main__":
    main()
