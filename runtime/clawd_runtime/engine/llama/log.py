"""The log of llama.cpp: kept off standard error, and available when something fails."""

from __future__ import annotations

import ctypes
import logging
import re
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import llama_cpp

_log = logging.getLogger("clawd.llama")

# ggml_log_level of ggml.h; 5 continues the line before.
_INFO, _WARNING, _ERROR = 2, 3, 4
# Logged by llama_model::load_tensors; no function of the API returns it.
_OFFLOADED = re.compile(r"offloaded (\d+)/(\d+) layers to GPU")


class Complaints:
    """The last errors that llama.cpp logged, and how many layers out of how many it offloaded to GPUs.

    `on_line` receives every line, also those that are no errors.
    """

    def __init__(self, on_line: Callable[[str], None] | None = None) -> None:
        self.on_line = on_line
        self.lines: deque[str] = deque(maxlen=8)
        self.offloaded: tuple[int, int] | None = None

    def text(self) -> str:
        """Return all errors on one line."""
        return "; ".join(self.lines)


_listeners: list[Complaints] = []


def _receive(level: int, text: bytes, _user_data: object) -> None:
    line = text.decode(errors="replace").strip()
    for listener in _listeners:
        if listener.on_line is not None:
            listener.on_line(line)
    if level == _INFO and (match := _OFFLOADED.search(line)):
        for listener in _listeners:
            listener.offloaded = int(match[1]), int(match[2])
    if not line or level not in (_WARNING, _ERROR):
        return
    _log.debug("llama.cpp: %s", line)
    if level == _ERROR:
        for listener in _listeners:
            listener.lines.append(line)


# Kept for the lifetime of the process: llama.cpp holds the bare pointer.
_callback = llama_cpp.llama_log_callback(_receive)


def take_over_log() -> None:
    """Redirect the warnings and errors of llama.cpp to Python's `logging`."""
    llama_cpp.llama_log_set(_callback, ctypes.c_void_p(0))


@contextmanager
def capture_log(on_line: Callable[[str], None] | None = None) -> Iterator[Complaints]:
    """Collect the errors that llama.cpp logs inside the block; `take_over_log` must have been called.

    `on_line` receives every line that it logs; it must not raise.
    """
    complaints = Complaints(on_line)
    _listeners.append(complaints)
    try:
        yield complaints
    finally:
        _listeners.remove(complaints)
