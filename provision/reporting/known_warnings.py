"""Warnings that earlier runs have shown: a run does not repeat them, but prints their number."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from provision.local.run_log import log_folder

REPEATED_AFTER = 30 * 86400.0
"""Seconds without the warning after which it counts as new."""


class KnownWarnings:
    """The warnings of one inventory by digest, with the time of the last run that had each.

    They are stored next to the logs of this machine. If they cannot be read or written there, warnings are
    shown again.
    """

    def __init__(self, inventory: Path, now: Callable[[], float] = time.time) -> None:
        name = _digest(str(inventory.absolute()))
        self._file = log_folder().parent / "warnings" / f"{name}.json"
        self._now = now
        self._before = _fresh(_read(self._file), now())
        self._seen: dict[str, float] = {}

    def is_new(self, message: str) -> bool:
        """Record a warning of this run and return whether no earlier run has shown it."""
        digest = _digest(message)
        self._seen[digest] = self._now()
        return digest not in self._before

    def save(self) -> None:
        """Store the warnings of this run for the next one."""
        if not self._seen:
            return
        with suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            fresh = self._file.with_suffix(".new")
            fresh.write_text(json.dumps({**self._before, **self._seen}))
            fresh.replace(self._file)


def _read(file: Path) -> Mapping[str, float]:
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {key: float(value) for key, value in found.items() if isinstance(value, int | float)}


def _fresh(seen: Mapping[str, float], now: float) -> dict[str, float]:
    return {digest: at for digest, at in seen.items() if now - at < REPEATED_AFTER}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:32]
