"""Conversion of the bytes of tokens to text that can be shown immediately.

A token may be a part of a character, and a stop string or a mark of reasoning may arrive in pieces: text is
held back until it is certain what it belongs to. The result does not depend on how the bytes were split.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from clawd_runtime.reasoning.splitter import ReasoningSplit, ReasoningSplitter


class TextStream:
    """The text of one answer, fed with the bytes of its tokens.

    The answer ends before the stop string that is complete first (of several, the longest); those in the
    reasoning do not count. `opening` is the end of the prompt. Bytes that are not UTF-8 become U+FFFD; a
    character that is still incomplete at the end is dropped. With `plain`, only reasoning that the prompt has
    opened is separated, and the text after it is not searched for marks.
    """

    def __init__(self, stop: Sequence[str] = (), opening: str = "", *, plain: bool = False) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._splitter = ReasoningSplitter(opening)
        self._stop = tuple(stop)
        self._held = ""
        self.stopped = False
        self._plain = plain and not self._splitter.reasoning
        self._plain_after = plain

    @property
    def reasoning(self) -> bool:
        """Return whether the text that follows is reasoning, as far as is known."""
        return not self._plain and self._splitter.reasoning

    def feed(self, piece: bytes) -> ReasoningSplit:
        """Return the text that is now certain; set `stopped` if a stop string has ended the answer."""
        if self.stopped:
            return ReasoningSplit()
        text = self._decoder.decode(piece)
        if self._plain:
            return self._before_stop(ReasoningSplit("", text))
        split = self._splitter.feed(text)
        if self._plain_after and not self._splitter.reasoning:
            rest = self._splitter.finish(complete=False)
            split = ReasoningSplit(split.reasoning + rest.reasoning, split.answer + rest.answer)
            self._plain = True
        return self._before_stop(split)

    def finish(self, *, complete: bool = True) -> ReasoningSplit:
        """Return the text held back for a mark or stop string that did not follow.

        `complete`: the model ended the answer.
        """
        if self.stopped:
            return ReasoningSplit()
        end = ReasoningSplit() if self._plain else self._splitter.finish(complete=complete)
        split = self._before_stop(end)
        rest, self._held = self._held, ""
        return ReasoningSplit(split.reasoning, split.answer + rest, split.restarts)

    def _before_stop(self, split: ReasoningSplit) -> ReasoningSplit:
        if not self._stop:
            return split
        if split.restarts:
            self._held = ""
        self._held += split.answer
        end = self._stop_start()
        if end is not None:
            self.stopped = True
            certain, rest = end, ""
        else:
            certain = len(self._held) - max(_overlap(self._held, stop) for stop in self._stop)
            rest = self._held[certain:]
        text, self._held = self._held[:certain], rest
        return ReasoningSplit(split.reasoning, text, split.restarts)

    def _stop_start(self) -> int | None:
        found = [(self._held.find(stop), stop) for stop in self._stop if stop in self._held]
        return min(found, key=lambda hit: (hit[0] + len(hit[1]), hit[0]))[0] if found else None


def _overlap(text: str, stop: str) -> int:
    """Return the length of the longest end of `text` that is an incomplete beginning of `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
