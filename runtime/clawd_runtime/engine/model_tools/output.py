"""What a tool prints: JSON objects, one a line, for the program that started it.

    {"clawd": "progress", "what": "quantising", "fraction": 0.4}
    {"clawd": "result", …}
    {"clawd": "error", "message": "…", "advice": "…"}

Other lines are output of libraries.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

_PAUSE = 0.1
"""Seconds between two reports of progress."""


class ProgressLines:
    """Progress of the steps of a tool, at most ten times a second."""

    def __init__(self) -> None:
        self._next = 0.0
        self._what = ""

    def step(self, what: str) -> None:
        """Begin a step."""
        self._what = what
        self._next = 0.0
        self(0.0)

    def __call__(self, fraction: float) -> None:
        """Report the part of the step that is done (0…1)."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _PAUSE
            write("progress", {"what": self._what, "fraction": round(fraction, 4)})


def write(kind: str, fields: Mapping[str, Any]) -> None:
    """Print one object."""
    print(json.dumps({"clawd": kind, **fields}), flush=True)
