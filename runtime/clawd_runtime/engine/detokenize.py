"""From the bytes of tokens to text that can be shown at once.

A token may be a part of a character, and a stop string may come in pieces: text is held back until it is
certain that it belongs to the answer. The result does not depend on how the bytes were cut.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class TextStream:
    """The text of one answer, fed with the bytes of its tokens.

    The answer ends before the stop string that is complete first (of several, the longest). Bytes that are
    no UTF-8 become U+FFFD; a character that is still incomplete at the end is left out.
    """

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._stop = tuple(stop)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""
        self.stopped = False

    def feed(self, piece: bytes) -> str:
        """The text that is now certain; `stopped` then says whether a stop string has ended the answer."""
        if self.stopped:
            return ""
        self._held += self._decoder.decode(piece)
        end = self._stop_start()
        if end is not None:
            self.stopped = True
            text, self._held = self._held[:end], ""
            return text
        keep = max((_overlap(self._held, stop) for stop in self._stop), default=0)
        certain = len(self._held) - keep
        text, self._held = self._held[:certain], self._held[certain:]
        return text

    def finish(self) -> str:
        """What was held back for a stop string that never came."""
        text, self._held = self._held, ""
        return text

    def _stop_start(self) -> int | None:
        found = [(self._held.find(stop), stop) for stop in self._stop if stop in self._held]
        return min(found, key=lambda hit: (hit[0] + len(hit[1]), hit[0]))[0] if found else None


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of `text` with which `stop` begins without being complete."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
