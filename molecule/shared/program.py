"""Commands of the program for the tests of the scenarios."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SCENARIO = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """Run clawd-provision with the scenario's inventory."""
    command = [str(ROOT / ".venv" / "bin" / "clawd-provision"), *words]
    return subprocess.run(
        [*command, "--inventory", str(SCENARIO / "inventory.yml")],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=300,
        check=False,
    )


def failed_checks() -> list[str]:
    """Return the failures of `clawd-provision verify` as `host: check: why`."""
    done = run("verify", "--json")
    checks: list[dict[str, Any]] = json.loads(done.stdout)["verification"]["checks"]
    assert checks, done.stderr
    wrong = [check for check in checks if check["outcome"] != "passed"]
    return [f"{check['host']}: {check['name']}: {check['message']}" for check in wrong]


def ask(question: str, conversation: str) -> str:
    """Return the answer of the bot through nginx."""
    done = run("chat", "--message", question, "--conversation", conversation)
    assert done.returncode == 0, done.stderr
    return done.stdout
