"""The stage between a model and everything that is shown or stored: text in, permitted text out."""

from __future__ import annotations

from clawd_runtime.bot.policy.folding.text import FoldedText
from clawd_runtime.bot.policy.values import MASK, Hit
from clawd_runtime.bot.policy.words import WordLists
from clawd_runtime.visible import is_drawn


class WordStage:
    """Checks a text that arrives in pieces, whose division makes no difference.

    Of what has arrived it holds back the longest end that may still become a forbidden word, or that the next
    character may show to be one. After a hit that blocks, nothing more comes out.
    """

    def __init__(self, words: WordLists) -> None:
        self._words = words
        self._text = FoldedText()
        self._held = ""
        self._from = 0
        """Position in the whole text at which `_held` begins."""
        self._position = 0
        """Position up to which text was returned."""
        self._hidden_until = 0
        """Position up to which the text is replaced by what has been returned already."""
        self.hits: list[Hit] = []
        self.blocked: Hit | None = None

    def feed(self, piece: str) -> str:
        """Return what can be shown now that `piece` has arrived."""
        if self.blocked:
            return ""
        self._text.append(piece)
        self._held += piece
        return self._decide(self._whole_character(self._words.undecided(self._text)))

    def finish(self) -> str:
        """Return the rest, at the end of the text."""
        return "" if self.blocked else self._decide(len(self._text.units))

    def _whole_character(self, unit: int) -> int:
        """Return `unit`, or the first of the units of its character."""
        starts = self._text.starts
        while 0 < unit < len(starts) and starts[unit - 1] == starts[unit]:
            unit -= 1
        return unit

    def _decide(self, units: int) -> str:
        """Return the text before this unit, with what is forbidden in it hidden, and drop it."""
        text = self._text
        end = text.starts[units] if units < len(text.starts) else text.end
        decided = (
            [self._words.hit(each, text) for each in self._words.matches(text) if each.start < units]
            if units
            else []
        )
        released = []
        for hit in decided:
            if hit.acts and hit.action == "block":
                self.hits.append(hit)
                self.blocked = hit
                released.append(self._shown(hit.start))
                self._held = ""
                return "".join(released)
            if not hit.acts:
                self.hits.append(hit)
            elif hit.end > self._hidden_until:
                self.hits.append(hit)
                released.append(self._shown(hit.start))
                released.append(self._instead(hit))
                self._hidden_until = hit.end
        released.append(self._shown(end))
        self._held = self._held[end - self._from :]
        self._from = end
        text.cut(units)
        return "".join(released)

    def _shown(self, until: int) -> str:
        """Return the text up to a position, without what has been returned or hidden."""
        text = self._held[max(self._position, self._hidden_until) - self._from : until - self._from]
        self._position = max(self._position, until)
        return text

    def _instead(self, hit: Hit) -> str:
        """Return what is shown instead of a hit, or of the part of it that is not hidden yet."""
        if hit.action == "replace" and hit.start >= self._hidden_until:
            return hit.replacement
        hidden = self._held[max(hit.start, self._hidden_until) - self._from : hit.end - self._from]
        return MASK * sum(map(is_drawn, hidden))


def checked(text: str, words: WordLists) -> tuple[str, WordStage]:
    """Return a whole text with what is forbidden hidden, and the stage that has its hits."""
    stage = WordStage(words)
    return stage.feed(text) + stage.finish(), stage
