"""Separates the reasoning in a model's answer from what people are shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from clawd_runtime.bot.chat_chunks import Chunk, Cut
from clawd_runtime.reasoning import ReasoningSplitter, Split

Habit = Literal["unknown", "answers", "separates", "opens", "closes"]
"""What a server was last seen to do with reasoning: it sends none (`answers`); sends it in a field or part of
its own (`separates`); or in the text, with an opening mark (`opens`), or only with a closing one
(`closes`), so that it looks like the answer until that comes.

Text is shown while it grows only where it cannot be reasoning: not before an answer has shown the habit,
and of a server that sends reasoning as text only what follows it.
"""


@dataclass(frozen=True, slots=True)
class Piece:
    """What the model gave next: text of the answer, reasoning, or both.

    With `restarts`, all text before was no answer but reasoning. `provisional` text may still turn out to be.
    """

    text: str = ""
    reasoning: str = ""
    restarts: bool = False
    provisional: bool = False


@dataclass(frozen=True, slots=True)
class End:
    """The answer is over: complete, or cut. `reasoning_tokens` is what the server counted, if it did."""

    cut: Cut | None = None
    reasoning_tokens: int | None = None


class Separator:
    """Separates reasoning from the answer, whether the server did or not."""

    def __init__(self, habit: Habit) -> None:
        self.habit = self._known = habit
        self._assumed = habit == "closes"
        self._splitter = ReasoningSplitter("<think>" if self._assumed else "")
        self._thoughts: list[str] = []
        self._separated = False
        self._answered = False

    def feed(self, chunk: Chunk) -> Piece | None:
        """Return what a chunk adds."""
        if chunk.reasoning:
            self.habit = "separates"
            if self._assumed:
                self._assumed, self._splitter = False, ReasoningSplitter()
        return self._piece(self._splitter.feed(chunk.text) if chunk.text else Split(), chunk.reasoning)

    def finish(self, *, complete: bool) -> Piece | None:
        """Return what was held back. `complete`: the model ended by itself."""
        split = self._splitter.finish(complete=complete)
        piece = self._piece(split, "")
        if split.returned:
            self.habit = self._known  # a mark that the answer was about says nothing
        if self._assumed and complete and not self._answered:
            # It did not reason this time, so no closing mark came.
            self.habit = "unknown"
            return Piece("".join(self._thoughts), restarts=True)
        if self.habit == "unknown" and complete:
            self.habit = "answers"
        return piece

    def _piece(self, split: Split, reasoning: str) -> Piece | None:
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
        return Piece(split.answer, reasoning, split.restarts, provisional=not certain)
