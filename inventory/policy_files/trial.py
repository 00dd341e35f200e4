"""Trial of a policy by the bot's own code, in a separate process, as the bot would load it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from inventory.errors import ClawdError

RUNTIME = Path(__file__).resolve().parents[2] / "runtime"
"""Where the bot's code lies, in a clone and in an installation alike."""
TRIAL_LIMIT = 120
"""Seconds."""
_INHERITED = ("LD_LIBRARY_PATH", "PATH", "SYSTEMROOT")
_PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from clawd_runtime.bot.policy.trial import main
main()
"""


@dataclass(frozen=True, slots=True)
class FoundRule:
    """A rule that a text matches: where, by which entry, and what then happens."""

    rule: str
    entry: str
    action: str
    text: str
    shadow: bool


@dataclass(frozen=True, slots=True)
class TriedText:
    """A text as a question and as an answer: what remains of it (`None`: blocked), and what was found."""

    question: str | None
    answer: str | None
    in_question: tuple[FoundRule, ...]
    in_answer: tuple[FoundRule, ...]


@dataclass(frozen=True, slots=True)
class PolicyTrial:
    """What the bot makes of a policy; without `problems` it has a `version` and takes memory."""

    problems: tuple[str, ...]
    version: str = ""
    words: int = 0
    rules: int = 0
    megabytes: float = 0.0
    texts: tuple[TriedText, ...] = ()


def tried(content: str, texts: Sequence[str] = ()) -> PolicyTrial:
    """Return the trial of a policy.json, with `texts` as questions and answers.

    Raises `ClawdError` when the bot's code cannot be run here.
    """
    return _tried(content, tuple(texts))


@lru_cache(maxsize=2)
def _tried(content: str, texts: tuple[str, ...]) -> PolicyTrial:
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-B", "-c", _PROGRAM, str(RUNTIME)],
            input=json.dumps({"content": content, "texts": texts}).encode(),
            capture_output=True,
            timeout=TRIAL_LIMIT,
            env={name: os.environ[name] for name in _INHERITED if name in os.environ},
            check=False,
        )
    except subprocess.TimeoutExpired:
        return PolicyTrial((f"it takes more than {TRIAL_LIMIT} seconds to load",))
    if done.returncode != 0:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        why = "".join(f": {line}" for line in last)
        raise ClawdError(
            f"cannot try the policy: its process ended with {done.returncode}{why}",
            advice="reinstall clawd-provision",
        )
    return _read(json.loads(done.stdout))


def _read(found: dict[str, Any]) -> PolicyTrial:
    texts = tuple(
        TriedText(
            each["question"],
            each["answer"],
            tuple(FoundRule(**hit) for hit in each["in_question"]),
            tuple(FoundRule(**hit) for hit in each["in_answer"]),
        )
        for each in found.pop("texts", ())
    )
    return PolicyTrial(problems=tuple(found.pop("problems")), texts=texts, **found)
