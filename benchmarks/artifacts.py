"""How fast files of models are read and hashed.

`make bench-artifacts`, or `python -m benchmarks.artifacts [--megabytes 100 400] [--runs 3]`, prints a line of
JSON for each size: megabytes a second of hashing random files. Every run has a file of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

from provision.local.cache import sha256_of


def rate(megabytes: int) -> float:
    """Return the megabytes a second of hashing a new file."""
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "model.gguf"
        with file.open("wb") as handle:
            for _ in range(megabytes):
                handle.write(os.urandom(1 << 20))
        began = time.perf_counter()
        sha256_of(file, lambda message, fraction=None: None)
        return megabytes / (time.perf_counter() - began)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[100, 400])
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    for megabytes in arguments.megabytes:
        rates = [rate(megabytes) for _ in range(arguments.runs)]
        figures = {"megabytes": megabytes, "megabytes_a_second": round(statistics.median(rates))}
        print(json.dumps({"what": "sha256", **figures}), flush=True)


if __name__ == "__main__":
    main()
