"""The engine and its peers as processes that serve a model on a Unix socket."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.engine import peers
from benchmarks.engine.load import ask, is_ready
from deploys.ops.programs import ROOT

READY_S = 120
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Shape:
    """What a server is started for: the model, how many sequences at once, and the tokens of each."""

    model: Path
    slots: int
    context: int
    threads: int


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs, and how to reach it."""

    name: str
    socket: Path
    process: subprocess.Popen[bytes]

    def cpu_seconds(self) -> float:
        """Return the processor time that it has taken."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def peak_megabytes(self) -> float:
        """Return the most memory that it has held, the model's file included."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
        return float("nan")


Command = Callable[[Shape, Path], list[str]]


def engine(shape: Shape, folder: Path) -> list[str]:
    """Return the command that starts clawd-engine."""
    settings = {
        "socket": str(folder / "socket"),
        "model": str(shape.model),
        "model_name": "bench",
        "context_size": shape.context,
        "parallel": shape.slots,
        "threads": shape.threads,
        "queue": 64,
    }
    (folder / "engine.json").write_text(json.dumps(settings))
    return [sys.executable, "-P", "-m", "clawd_runtime.engine", "--config", str(folder / "engine.json")]


def llama_server(shape: Shape, folder: Path) -> list[str]:
    """Return the command that starts llama-server with its own defaults."""
    return [
        *(str(peers.programs() / "llama-server"), "--model", str(shape.model)),
        *("--ctx-size", str(shape.context * shape.slots), "--parallel", str(shape.slots)),
        *("--threads", str(shape.threads), "--host", str(folder / "socket.sock")),
    ]


def xllamacpp(shape: Shape, folder: Path) -> list[str]:
    """Return the command that starts the server of xllamacpp."""
    return [
        str(peers.xllamacpp()),
        str(ROOT / "benchmarks/engine/serve_xllamacpp.py"),
        *_words(shape, folder),
    ]


def locked_llama(shape: Shape, folder: Path) -> list[str]:
    """Return the command that starts llama-cpp-python's `Llama` behind a lock."""
    return [sys.executable, "-m", "benchmarks.engine.serve_locked_llama", *_words(shape, folder)]


def _words(shape: Shape, folder: Path) -> tuple[str, ...]:
    return (
        str(shape.model),
        str(folder / "socket"),
        str(shape.slots),
        str(shape.context),
        str(shape.threads),
    )


SERVERS: Mapping[str, Command] = {
    "clawd-engine": engine,
    "llama-server": llama_server,
    "xllamacpp": xllamacpp,
    "Llama behind a lock": locked_llama,
}


@contextmanager
def serving(name: str, shape: Shape, folder: Path) -> Iterator[Server]:
    """Start a server and wait until it is ready; stop it afterwards."""
    folder.mkdir(parents=True)
    with (folder / "log").open("wb") as log:
        words = SERVERS[name](shape, folder)
        process = subprocess.Popen(words, stdout=log, stderr=log, cwd=ROOT)
    try:
        deadline = time.monotonic() + READY_S
        while not (found := [each for each in folder.glob("socket*") if is_ready(each)]):
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{name} does not start:\n{(folder / 'log').read_text(errors='replace')[-3000:]}")
            time.sleep(0.1)
        server = Server(name, found[0], process)
        ask(server.socket, "You are helpful.", "Say hello.", tokens=4)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
