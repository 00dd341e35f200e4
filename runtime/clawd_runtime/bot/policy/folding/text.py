"""Text as units, with the way back from units to characters."""

from __future__ import annotations

from clawd_runtime.bot.policy.folding.characters import FOLDING, Gap, Script

LONGEST_GAP = 24
"""Visible characters between two units; more of them end every word."""
BREAK = "\0"
"""A unit that no word contains."""


class FoldedText:
    """A text that grows at its end and is cut at its beginning.

    The unit `n` stands for the characters from `starts[n]` to `ends[n]`; `gaps[n]` lies before it. Positions
    count from the beginning of the whole text. After a cut, `before` is the script of the last unit that was
    cut off, if there was one.
    """

    def __init__(self, text: str = "") -> None:
        self.units = ""
        self.starts: list[int] = []
        self.ends: list[int] = []
        self.gaps: list[Gap] = []
        self.scripts: list[Script] = []
        self.before: Script | None = None
        self.gap = Gap.NONE
        """What follows the last unit."""
        self.end = 0
        self._in_gap = 0
        if text:
            self.append(text)

    def append(self, text: str) -> None:
        """Add text at the end."""
        added: list[str] = []
        position = self.end
        for character in text:
            position += 1
            units, script, gap = FOLDING[character]
            if units:
                for unit in units:
                    self._add(position - 1, position, script)
                    added.append(unit)
                continue
            if gap:
                self.gap = max(self.gap, gap)
                self._in_gap += 1
                if self._in_gap == LONGEST_GAP:
                    self._add(position, position, "unspaced")
                    added.append(BREAK)
        self.end = position
        self.units += "".join(added)

    def _add(self, start: int, end: int, script: Script) -> None:
        self.starts.append(start)
        self.ends.append(end)
        self.gaps.append(self.gap)
        self.scripts.append(script)
        self.gap, self._in_gap = Gap.NONE, 0

    def cut(self, count: int) -> None:
        """Cut off the first `count` units."""
        if count:
            self.before = self.scripts[count - 1]
            self.units = self.units[count:]
            for part in (self.starts, self.ends, self.gaps, self.scripts):
                del part[:count]
