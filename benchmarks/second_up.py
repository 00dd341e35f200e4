"""How long `up` takes on hosts that are already as declared.

`make bench-up INVENTORY=NAME`, or `python -m benchmarks.second_up NAME [--runs 3]`, runs `up` until nothing
changes, then `--runs` times more, and prints a line of JSON for each: seconds and number of hosts. The first
run changes the hosts; take hosts that may be changed, such as those of `make up`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def up(inventory: str) -> tuple[float, dict[str, int]]:
    """Return the seconds that `up` took, and the number of changes on each host."""
    began = time.perf_counter()
    command = [sys.executable, str(ROOT / "cli.py"), "up", "-i", inventory, "--yes", "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    seconds = time.perf_counter() - began
    if done.returncode != 0:
        sys.exit(f"`up` failed with exit code {done.returncode}")
    hosts = json.loads(done.stdout)["result"]["hosts"]
    return seconds, {host["host"]: len(host["changed"]) for host in hosts}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("inventory")
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    if any(up(arguments.inventory)[1].values()) and any(up(arguments.inventory)[1].values()):
        sys.exit("the second `up` changed hosts again")
    for _ in range(arguments.runs):
        seconds, changes = up(arguments.inventory)
        print(
            json.dumps(
                {"hosts": len(changes), "changes": sum(changes.values()), "seconds": round(seconds, 2)}
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
