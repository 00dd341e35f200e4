"""How long commands take on this machine before they connect to a host.

`make bench-commands`, or `python -m benchmarks.command_line [--runs 5] [--hosts 1 10 50]`, prints a line of
JSON for each command and number of hosts in the inventory: seconds of processor time and of wall-clock time
(median). Every run has an inventory of its own, with other names and addresses.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# With the exit code that each must have; the last one ends before it connects, since there is no such host.
COMMANDS = {
    ("--help",): 0,
    ("inventory", "schema"): 0,
    ("inventory", "check", "-i", "bench"): 0,
    ("plan", "-i", "bench", "--limit", "nowhere"): 1,
}


def inventory(folder: Path, hosts: int, run: int) -> None:
    """Write an inventory of `hosts` hosts; those of two runs differ in every name and address."""
    declared = "".join(
        f"  r{run}h{number}: {{address: 10.{run % 256}.{number // 250}.{number % 250 + 1}}}\n"
        for number in range(hosts)
    )
    (folder / "inventory").mkdir()
    (folder / "inventory" / "bench.yml").write_text(
        f"hosts:\n{declared}"
        "models:\n  default: {engine: openai-compatible, endpoint: https://models.example.com/v1}\n",
        encoding="utf-8",
    )


def once(words: tuple[str, ...], folder: Path) -> tuple[float, float]:
    """Run a command; return its seconds of processor time and of wall-clock time."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    environment = {**os.environ, "XDG_STATE_HOME": str(folder / "state")}
    command = [sys.executable, str(ROOT / "cli.py"), *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    wall = time.perf_counter() - began
    if done.returncode != COMMANDS[words] or "mistake" in done.stderr:
        sys.exit(f"`{' '.join(words)}` failed with exit code {done.returncode}: {done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--hosts", type=int, nargs="+", default=[1, 10, 50])
    arguments = parser.parse_args()
    for words in COMMANDS:
        for hosts in arguments.hosts if "-i" in words else [0]:
            measured = []
            for run in range(arguments.runs):
                with tempfile.TemporaryDirectory() as name:
                    inventory(Path(name), hosts, run)
                    measured.append(once(words, Path(name)))
            cpu, wall = (statistics.median(values) for values in zip(*measured, strict=True))
            figures = {"cpu_seconds": round(cpu, 3), "wall_seconds": round(wall, 3)}
            print(json.dumps({"command": " ".join(words), "hosts": hosts, **figures}), flush=True)


if __name__ == "__main__":
    main()
