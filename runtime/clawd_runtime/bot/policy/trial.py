"""Trial of a policy on a laptop: what the bot would report, and what it would do with texts.

Reads JSON from standard input, `{"content": "…", "texts": ["…"]}`, and writes JSON to standard output.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from clawd_runtime.bot.policy.answers import AnswerBlocked, AnswerCheck
from clawd_runtime.bot.policy.file import LARGEST, Policy, compiled, mistakes_in
from clawd_runtime.bot.policy.rules import without
from clawd_runtime.bot.policy.stage import WordStage
from clawd_runtime.bot.policy.values import Hit

PAGE = 4096


def main() -> None:
    """Try the policy on standard input."""
    given = json.load(sys.stdin)
    json.dump(trial_of(given["content"].encode(), given["texts"]), sys.stdout)


def trial_of(raw: bytes, texts: Sequence[str]) -> dict[str, Any]:
    """Return the mistakes of a policy, or its figures and its effects on `texts`."""
    if len(raw) > LARGEST:
        return {"problems": [f"the policy is larger than {LARGEST >> 20} MB"]}
    if mistakes := mistakes_in(raw):
        return {"problems": mistakes}
    before = _resident()
    policy = compiled(raw, {})
    return {
        "problems": [],
        "version": policy.version,
        "words": len(policy.words),
        "rules": len(policy.rules),
        "megabytes": max(0.0, _resident() - before),
        "texts": [_tried(policy, text) for text in texts],
    }


def _tried(policy: Policy, text: str) -> dict[str, Any]:
    asked = policy.rules.hits(text)
    blocked = any(hit.acts and hit.action == "block" for hit in asked)
    stage = WordStage(policy.words)
    stage.feed(text)
    stage.finish()
    hits = tuple(stage.hits)
    answer: str | None
    try:
        answer = AnswerCheck(policy).complete(text).text
    except AnswerBlocked as block:
        answer = None
        hits = hits if block.hit in hits else (*hits, block.hit)
    return {
        "question": None if blocked else without(text, asked),
        "answer": answer,
        "in_question": _found(asked, text),
        "in_answer": _found(hits, text),
    }


def _found(hits: Iterable[Hit], text: str) -> list[dict[str, Any]]:
    return [
        {
            "rule": hit.rule,
            "entry": hit.entry,
            "action": hit.action,
            "text": text[hit.start : hit.end],
            "shadow": hit.shadow,
        }
        for hit in hits
    ]


def _resident() -> float:
    """Return the resident memory of this process in MB; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 1e6
    except OSError:
        return 0.0
