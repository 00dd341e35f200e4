"""Throughput of the engine's batcher compared with llama-cpp-python's `Llama` behind a lock, in one run.

    python runtime/benchmarks/engine_throughput.py MODEL.gguf [--concurrency 1 4 8 16] [--rounds 2]

Every caller sends a shared system prompt of about 155 tokens and a question of its own, and takes 64 tokens.
Printed is generated tokens a second over all callers, prompts included in the time, and the processor
milliseconds each token took, which other load on the machine disturbs less (with OMP_WAIT_POLICY=passive).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from clawd_runtime.engine.batching.batcher import Batcher
from clawd_runtime.engine.llama.backends import load_backends
from clawd_runtime.engine.llama.cpus import usable_cpus
from clawd_runtime.engine.llama.model import LlamaModel
from clawd_runtime.engine.metrics import EngineMetrics
from clawd_runtime.engine.prompt.template import ChatTemplate, PromptMessage
from clawd_runtime.engine.values import AnswerJob, Delta, Event, Finished, SamplingParameters

SYSTEM = (
    "You are the assistant of a small team. Answer in full sentences, stay friendly, and never invent facts. "
    * 7
)
ANSWER_TOKENS = 64
CONTEXT = 512

# One client: sends question number `n` and returns how many tokens it received.
Ask = Callable[[int], int]


def question(number: int) -> str:
    """Return a prompt of about 25 tokens."""
    return f"Question {number}: please tell me a story about {number * 37} ships on the sea and their crews."


@dataclass(frozen=True, slots=True, order=True)
class Rate:
    """Tokens per second, and processor milliseconds per token."""

    tokens: float = 0.0
    cpu: float = 0.0

    def __str__(self) -> str:
        return f"{self.tokens:7.1f} {self.cpu:6.1f}"


def measure(ask: Ask, concurrency: int, first: int) -> Rate:
    """Run all clients at once, with two questions each."""
    received: list[int] = []

    def caller(number: int) -> None:
        for turn in range(2):
            received.append(ask(first + number * 2 + turn))

    threads = [threading.Thread(target=caller, args=(number,)) for number in range(concurrency)]
    began, used = time.monotonic(), time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds, cpu = time.monotonic() - began, time.process_time() - used
    return Rate(sum(received) / seconds, 1000 * cpu / sum(received))


def batcher_ask(model: LlamaModel, batcher: Batcher) -> Ask:
    """Return a client of the engine's batcher; every prompt is rendered and tokenised again."""
    template = ChatTemplate(model.chat_template, bos=model.bos, eos=model.eos, control=model.control_texts())

    def ask(number: int) -> int:
        prompt = model.tokenize(
            *template.render([PromptMessage("system", SYSTEM), PromptMessage("user", question(number))])
        )
        events: queue.Queue[Event] = queue.Queue()
        batcher.submit(AnswerJob(prompt, ANSWER_TOKENS, SamplingParameters(temperature=0)), events.put)
        while isinstance(event := events.get(), Delta):
            pass
        assert isinstance(event, Finished), event
        return event.usage.completion

    return ask


def locked_ask(llama: Any) -> Ask:
    """Return a client of the high-level API, one caller at a time."""
    lock = threading.Lock()

    def ask(number: int) -> int:
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question(number)}]
        with lock:
            answer = llama.create_chat_completion(messages, max_tokens=ANSWER_TOKENS, temperature=0)
        return int(answer["usage"]["completion_tokens"])

    return ask


def resident_megabytes() -> float:
    """Return the current memory of this process, as the kernel counts it."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 4, 8, 16])
    parser.add_argument("--rounds", type=int, default=2, help="the best of how many (default: %(default)s)")
    parser.add_argument("--no-lock", action="store_true", help="leave out the comparison")
    options = parser.parse_args()

    backend, threads = load_backends(), usable_cpus()
    print(f"{options.model.name}, back end {backend.variant}, {threads} threads, best of {options.rounds}")
    print(
        f"{'callers':>8} {'batcher':>7} {'cpu ms':>6} {'locked':>7} {'cpu ms':>6} {'ratio':>6} {'MB more':>8}"
    )
    from llama_cpp import Llama  # after clawd_runtime.engine, which sets how its threads wait

    llama = Llama(
        str(options.model), n_ctx=CONTEXT, n_threads=threads, n_threads_batch=threads, verbose=False
    )
    first = 1
    for concurrency in options.concurrency:
        before = resident_megabytes()
        model = LlamaModel(options.model, context_size=CONTEXT, parallel=concurrency, threads=threads)
        batcher = Batcher(model, EngineMetrics(), queue=concurrency, on_fault=lambda fault: None)
        batcher.start()
        with contextlib.ExitStack() as closing:
            closing.callback(model.close)
            closing.callback(batcher.stop)
            best = {"batcher": Rate(), "locked": Rate()}
            asks = {"batcher": batcher_ask(model, batcher)}
            if not options.no_lock:
                asks["locked"] = locked_ask(llama)
            for _ in range(options.rounds):
                for name, ask in asks.items():
                    best[name] = max(best[name], measure(ask, concurrency, first))
                    first += 2 * concurrency
            grown = resident_megabytes() - before
        ratio = best["batcher"].tokens / best["locked"].tokens if best["locked"].tokens else float("nan")
        print(f"{concurrency:>8} {best['batcher']} {best['locked']} {ratio:6.2f} {grown:8.0f}", flush=True)


if __name__ == "__main__":
    main()
