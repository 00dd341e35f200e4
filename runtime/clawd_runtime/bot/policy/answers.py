"""The check of a model's answer, while it arrives and when it is complete."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from clawd_runtime.bot.channels.base import AnswerProgress
from clawd_runtime.bot.policy.file import Policy
from clawd_runtime.bot.policy.stage import WordStage
from clawd_runtime.bot.policy.values import Hit
from clawd_runtime.errors import RuntimeFault
from clawd_runtime.visible import is_blank


class AnswerBlocked(RuntimeFault):
    """An answer contains a word for which the whole answer is withheld.

    Raised while the answer arrives, so that the model stops.
    """

    def __init__(self, hit: Hit) -> None:
        super().__init__(f"answer withheld: rule {hit.rule}")
        self.hit = hit


@dataclass(frozen=True, slots=True)
class CheckedAnswer:
    """An answer in which nothing is forbidden any more, and what was found in it."""

    text: str
    hits: tuple[Hit, ...] = ()


class AnswerCheck:
    """The check of one answer, by the policy that was in force when it began."""

    def __init__(self, policy: Policy) -> None:
        self._words = policy.words
        self.version = policy.version

    def progress(self, shown: AnswerProgress) -> AnswerProgress:
        """Return a progress that passes on to `shown` only what is permitted."""
        return _CheckedProgress(self._words_stage, shown)

    def complete(self, text: str) -> CheckedAnswer:
        """Return the answer as it may be shown and stored; raise `AnswerBlocked` if it may not be."""
        stage = self._words_stage()
        permitted = stage.feed(text) + stage.finish()
        if stage.blocked:
            raise AnswerBlocked(stage.blocked)
        return CheckedAnswer(permitted, tuple(stage.hits))

    def _words_stage(self) -> WordStage:
        return WordStage(self._words)


class _CheckedProgress:
    def __init__(self, new_stage: Callable[[], WordStage], shown: AnswerProgress) -> None:
        self._new_stage = new_stage
        self._shown = shown
        self._restart()

    def _restart(self) -> None:
        self._stage = self._new_stage()
        self._seen = ""
        self._permitted = ""

    def show(self, text: str) -> None:
        """Show what is permitted of `text`, the answer so far; another beginning restarts the check."""
        if not text.startswith(self._seen):
            self._restart()
        permitted = self._stage.feed(text[len(self._seen) :])
        self._seen = text
        if self._stage.blocked:
            raise AnswerBlocked(self._stage.blocked)
        if permitted:
            self._permitted += permitted
            if not is_blank(self._permitted):
                self._shown.show(self._permitted)
