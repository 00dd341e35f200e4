"""The check of a model's answer, while it arrives and when it is complete."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from clawd_runtime.bot.channels.base import AnswerProgress
from clawd_runtime.bot.policy.file import Policy
from clawd_runtime.bot.policy.folding.text import FoldedText
from clawd_runtime.bot.policy.stage import WordStage
from clawd_runtime.bot.policy.values import Hit
from clawd_runtime.bot.policy.words import WordLists
from clawd_runtime.bot.text.markdown.guard import guarded
from clawd_runtime.bot.text.markdown.layout import laid_out
from clawd_runtime.bot.text.markdown.reading import read_markdown
from clawd_runtime.bot.values import Content
from clawd_runtime.errors import RuntimeFault
from clawd_runtime.visible import is_blank

# What Markdown does not show as it is written, apart from marks, which are symbols within words anyway.
PARAGRAPH = "\n\n"
HIDES_TEXT = re.compile(r"[&<]|\]\s*[(\[:]")
# Rendering takes about a microsecond a character, and happens on the event loop: 2 % of its time per answer.
RENDERED_A_SECOND = 20_000


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

    def progress(self, shown: AnswerProgress, clock: Callable[[], float] = time.monotonic) -> AnswerProgress:
        """Return a progress that passes on to `shown` only what is permitted.

        Text that must be rendered to be checked is passed on less often, the longer it is: after `n` rendered
        characters, nothing is rendered for `n / RENDERED_A_SECOND` seconds.
        """
        return _CheckedProgress(self._words, shown, clock)

    def complete(self, text: str) -> CheckedAnswer:
        """Return the answer as it may be shown and stored; raise `AnswerBlocked` if it may not be."""
        stage = self._words_stage()
        permitted = stage.feed(text) + stage.finish()
        if stage.blocked:
            raise AnswerBlocked(stage.blocked)
        if hit := hit_when_rendered(permitted, self._words):
            raise AnswerBlocked(hit)
        return CheckedAnswer(permitted, tuple(stage.hits))

    def _words_stage(self) -> WordStage:
        return WordStage(self._words)


def hit_when_rendered(markdown: str, words: WordLists) -> Hit | None:
    """Return a forbidden word that only becomes visible when Markdown is rendered.

    Links, references of characters and HTML can stand within a word; text without them is not rendered.
    """
    if not HIDES_TEXT.search(markdown):
        return None
    text = FoldedText(_rendered(markdown))
    hits = (words.hit(match, text) for match in words.matches(text))
    return next((hit for hit in hits if hit.acts), None)


def _rendered(markdown: str) -> str:
    found: list[Content] = []

    def keep(source: str) -> Sequence[Content]:
        found.append(Content(laid_out(read_markdown(source)).text))
        return found

    guarded(keep, markdown)
    return found[0].text if found else markdown


class _CheckedProgress:
    def __init__(self, words: WordLists, shown: AnswerProgress, clock: Callable[[], float]) -> None:
        self._words = words
        self._shown = shown
        self._clock = clock
        self._renders_at = 0.0
        """Time before which nothing is rendered."""
        self._restart()

    def _restart(self) -> None:
        self._stage = WordStage(self._words)
        self._seen = ""
        self._permitted = ""
        self._shown_until = 0
        """Length of the part of `_permitted` that was shown, in which nothing was found."""

    def show(self, text: str) -> None:
        """Show what is permitted of `text`, the answer so far; another beginning restarts the check."""
        if not text.startswith(self._seen):
            self._restart()
        permitted = self._stage.feed(text[len(self._seen) :])
        self._seen = text
        if self._stage.blocked:
            raise AnswerBlocked(self._stage.blocked)
        self._permitted += permitted
        if len(self._permitted) > self._shown_until and not is_blank(self._permitted):
            self._show_if_harmless()

    def _show_if_harmless(self) -> None:
        changed = self._changed()
        if HIDES_TEXT.search(changed):
            now = self._clock()
            if now < self._renders_at:
                return
            self._renders_at = now + len(changed) / RENDERED_A_SECOND
            if hit_when_rendered(changed, self._words):
                return
        self._shown_until = len(self._permitted)
        self._shown.show(self._permitted)

    def _changed(self) -> str:
        """Return the part in which what is not shown yet may be rendered differently.

        That is its paragraph, or everything for the target of a link, which may be used anywhere.
        """
        before = self._permitted.rfind(PARAGRAPH, 0, self._shown_until)
        paragraph = self._permitted[max(0, before) :]
        return self._permitted if "]:" in paragraph else paragraph
