"""Modules here run as the program does also when they are run alone."""

from __future__ import annotations

import subprocess
import sys

ASK = "import tests.deploys.conftest; from gevent import monkey; print(monkey.is_module_patched('socket'))"


def test_deploys_tests_alone_run_with_gevent_patched() -> None:
    """Else a verification, which copies a shell's outputs in greenlets, never ends."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ASK], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "True"
