"""Separation of a model's reasoning from the answer that users see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from clawd_runtime.bot.models.chat_chunks import Chunk, CountedTokens, Cut
from clawd_runtime.reasoning.splitter import ReasoningSplit, ReasoningSplitter

Habit = Literal["unknown", "answers", "separates", "opens", "closes"]
"""How a server last sent reasoning: none (`answers`), in a separate field or part (`separates`), in the text
with an opening mark (`opens`), or in the text with only a closing mark (`closes`), so that it looks like the
answer until that mark arrives.

Text is shown while it is received only if it cannot be reasoning: not before an answer has shown the habit,
and from a server that sends reasoning as text only after the reasoning.
"""


@dataclass(frozen=True, slots=True)
class OutputPiece:
    """A piece of a model's output: text of the answer, reasoning, or both.

    With `restarts`, all text before was reasoning, not the answer. `provisional` text may still turn out to
    be reasoning.
    """

    text: str = ""
    reasoning: str = ""
    restarts: bool = False
    provisional: bool = False


@dataclass(frozen=True, slots=True)
class End:
    """The end of an answer, complete or cut. `reasoning_tokens` and `tokens` are the server's counts."""

    cut: Cut | None = None
    reasoning_tokens: int | None = None
    tokens: CountedTokens | None = None


class Separator:
    """Separates reasoning from the answer if the server did not."""

    def __init__(self, habit: Habit) -> None:
        self.habit = self._known = habit
        self._assumed = habit == "closes"
        self._splitter = ReasoningSplitter("<think>" if self._assumed else "")
        self._thoughts: list[str] = []
        self._separated = False
        self._answered = False

    def feed(self, chunk: Chunk) -> OutputPiece | None:
        """Return the piece that a chunk adds; None if it adds nothing."""
        if chunk.reasoning:
            self.habit = "separates"
            if self._assumed:
                self._assumed, self._splitter = False, ReasoningSplitter()
        return self._piece(
            self._splitter.feed(chunk.text) if chunk.text else ReasoningSplit(), chunk.reasoning
        )

    def finish(self, *, complete: bool) -> OutputPiece | None:
        """Return the text held back. `complete`: the model ended the answer."""
        split = self._splitter.finish(complete=complete)
        piece = self._piece(split, "")
        if split.returned:
            self.habit = self._known  # a mark that the answer explains shows no habit
        if self._assumed and complete and not self._answered:
            # The model did not reason this time, so no closing mark arrived.
            self.habit = "unknown"
            return OutputPiece("".join(self._thoughts), restarts=True)
        if self.habit == "unknown" and complete:
            self.habit = "answers"
        return piece

    def _piece(self, split: ReasoningSplit, reasoning: str) -> OutputPiece | None:
        if split.restarts:
            self.habit = "closes"
        elif split.reasoning and not self._assumed:
            self.habit = "opens"
        self._separated = self._separated or split.restarts or bool(split.reasoning)
        if self._assumed and not self._answered:
            self._thoughts.append(split.reasoning)
        self._answered = self._answered or bool(split.answer)
        reasoning += split.reasoning
        if not (split.answer or reasoning or split.restarts):
            return None
        certain = self._separated or self.habit in ("separates", "answers")
        return OutputPiece(split.answer, reasoning, split.restarts, provisional=not certain)
