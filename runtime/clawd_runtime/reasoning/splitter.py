"""Separation of a model's reasoning from its answer, while the text arrives.

Models mark their reasoning in one of three ways, and providers forward the marks unchanged:

- a pair of tags: `<think>…</think>` and similar ones (`TAGS`). If the chat template writes the opening tag
  into the prompt, or a provider removes it, only the closing tag arrives;
- channels of gpt-oss: `<|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>final<|message|>…`
  (https://github.com/openai/harmony/blob/main/docs/format.md);
- the same channels after a server has removed the control tokens: `analysis…assistantfinal…`.

Reasoning is never part of the answer. An opening tag counts before any visible text of the answer (except
markup and a label such as `Assistant:`), on a separate line, and after earlier reasoning. Tags that the
answer explains stay in it: inside Markdown code or quotation marks, within a sentence, or as an example after
a colon (`answer_text`).
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from clawd_runtime.reasoning.answer_text import QUOTES, AnswerText
from clawd_runtime.reasoning.marks import (
    AT_START,
    CHANNEL,
    CLOSINGS,
    ENDS,
    HARMONY,
    HEADER,
    IN_ANSWER,
    IN_CHANNEL,
    IN_STRIPPED,
    IN_TAGS,
    MESSAGE,
    PAIRS,
    STARTING,
    STRIPPED_FINAL,
    STRIPPED_START,
    TAGS,
    WRAPPERS,
    Marks,
)
from clawd_runtime.reasoning.prose import MarkedBlock, in_sentence, is_named

_LONGEST_HEADER = 256
_LONGEST_PROSE = 500
_NOT_SPACE = re.compile(r"\S")
# The role and recipient of a turn: `assistant to=functions.f<|constrain|>json`.
_ROLE_FORM = re.compile(r"\s*(?:<\|start\|>)?[\w.:/-]*(?: ?to=[\w.:/-]*)?(?: ?<\|constrain\|> ?\w*)?\s?")


@dataclass(frozen=True, slots=True)
class ReasoningSplit:
    """The reasoning and the answer that a piece of text adds.

    With `restarts`, the answer so far is withdrawn first: it was reasoning, and `reasoning` now contains it.
    That happens if only the closing tag arrives.

    `returned` is the end of the reasoning before this piece that turned out to be part of the answer, which
    now contains it.
    """

    reasoning: str = ""
    answer: str = ""
    restarts: bool = False
    returned: str = ""


class ReasoningSplitter:
    """Splits the text of one answer, fed in pieces. How it is split into pieces does not change the result.

    `prompt_end` is the end of the prompt after the last message, if known: it may open the reasoning. An
    answer without reasoning is returned unchanged. Otherwise white space around the marks is removed, and an
    empty line separates two pieces of reasoning.
    """

    def __init__(self, prompt_end: str = "") -> None:
        self._mode: Literal["answer", "stray", "reasoning", "header"] = "answer"
        self._markers = IN_CHANNEL  # of the reasoning
        self._rest = ""  # undecided from `_at` on
        self._at = 0
        self._in_prompt = bool(prompt_end)
        self._reset()
        if prompt_end:
            self.feed(prompt_end)
            self._rest = ""
            self._in_prompt = False
            self._reset()
            self._blocks = self.reasoning

    def _reset(self) -> None:
        self._given: list[str] = []  # the answer since it was last withdrawn
        self._thoughts = False  # whether any reasoning was returned
        self._blocks = False  # whether a mark of reasoning was found
        self._space = ""  # of the reasoning, or before the answer; returned if more follows
        self._block_begins = True
        self._answer_begins = True
        self._wrapped: str | None = None
        self._joined = False  # whether there is no space before the reasoning
        self._text = AnswerText()
        self._about_marks = False  # whether the answer explains marks
        self._closing_in_code: int | None = None  # the piece of the answer that may end reasoning after all
        self._opening = self._closing = ""  # of the reasoning
        self._inner: Counter[str] = Counter()  # closing tags of further opening ones within the reasoning
        self._thought_last = ""  # the end of the reasoning
        self._explained: Counter[str] = Counter()  # closing tags whose opening ones the answer explains
        self._over = False  # whether the text has ended
        self._block: MarkedBlock | None = None  # text that may turn out not to be reasoning
        self._out = _Out()

    @property
    def reasoning(self) -> bool:
        """Return whether the text that follows is reasoning, as far as is known."""
        return self._mode in ("reasoning", "header")

    def feed(self, text: str) -> ReasoningSplit:
        """Return what `text` adds; a possible part of a mark is held back."""
        self._rest += text
        while self._advance():
            pass
        self._rest, self._at = self._rest[self._at :], 0
        return self._taken()

    def finish(self, *, complete: bool = True) -> ReasoningSplit:
        """Return the text held back, at the end. `complete`: the model ended the answer."""
        self._over = True
        while self._advance():
            pass
        rest, self._rest, self._at = self._rest[self._at :], "", 0
        if self._mode == "header" and ("<|" not in rest or not _is_header(rest)):
            # Not a header after all: the model does not write channels, even if its prompt ends like one.
            self._mode = "answer"
        if self._mode == "reasoning":
            self._think(rest)
            if self._block and complete and not self._block.certain and self._block.whole:
                self._give_back(self._block)
        elif self._mode == "answer":
            self._say(rest)
            self._end_in_open_code()
            if not self._blocks:
                self._give(self._space)
        return self._taken()

    def _taken(self) -> ReasoningSplit:
        out, self._out = self._out, _Out()
        return ReasoningSplit("".join(out.reasoning), "".join(out.answer), out.restarts, out.returned)

    # --- one step; returns whether another may follow ---------------------------------------------

    def _advance(self) -> bool:
        match self._mode:
            case "answer":
                return self._advance_answer()
            case "reasoning":
                return self._advance_reasoning()
            case "header":
                return self._advance_header()
            case "stray":
                return self._advance_stray()

    def _advance_answer(self) -> bool:
        markers = IN_ANSWER
        if self._answer_begins and not self._blocks:
            markers = AT_START
            begins = _NOT_SPACE.search(self._rest, self._at)
            at = begins.start() if begins else len(self._rest)
            text = self._rest[at : at + len(STRIPPED_START) + 1]
            if text and STRIPPED_START.startswith(text):
                return False
            if text.startswith(STRIPPED_START) and text[-1].isupper():
                opening = self._rest[self._at : at + len(STRIPPED_START)]
                self._at = at + len(STRIPPED_START)
                self._think_until(IN_STRIPPED, "", MarkedBlock(self._space + opening, certain=False))
                return True
        found = markers.find(self._rest, self._at)
        if found is None:
            self._say(self._taken_up_to(len(self._rest) - markers.unfinished(self._rest, self._at)))
            return False
        at, marker = found
        self._say(self._taken_up_to(at))
        mentioned = self._mentioned(marker, at)
        if mentioned is None:
            return False
        if mentioned and marker in CLOSINGS:
            self._about_marks = True
        if mentioned or not self._acts(marker, self._rest[at : at + len(marker)]):
            self._say(self._taken_up_to(at + len(marker)))
        elif self._mode != "header":
            self._at = at + len(marker)
        return True

    def _taken_up_to(self, end: int) -> str:
        text, self._at = self._rest[self._at : end], end
        return text

    def _mentioned(self, marker: str, at: int) -> bool | None:
        """Return whether the answer writes about a mark; `None` while the following text is unknown."""
        end = at + len(marker)
        if marker == STRIPPED_FINAL and self._rest[at:end] != marker:
            return True
        if self._in_prompt or not (marker in CLOSINGS or marker in HARMONY or marker == STRIPPED_FINAL):
            return False
        after = self._after(end)
        if after is None:
            return None
        text, following = self._text, after[:1]
        if marker == STRIPPED_FINAL:
            alone = text.last == " " and not (following.isalnum() or following in "*#")
            return following.islower() or following == "_" or (bool(following) and alone)
        if in_sentence(text.last_two, after):
            return True
        if marker in HEADER:
            return text.last == " " and not (following.isalnum() or following == "<")
        return marker in CLOSINGS and text.size <= _LONGEST_PROSE and is_named(text.recent, after)

    def _after(self, end: int) -> str | None:
        """Return the two characters from `end` on; `None` if they have not arrived yet."""
        after = self._rest[end : end + 2]
        return None if after in ("", " ") and not self._over else after

    def _acts(self, marker: str, written: str) -> bool:
        """Process a mark within the answer; return False if it is part of the text."""
        if self._text.quoted:
            self._about_marks = True
            return False
        if self._text.in_code:
            self._note_in_code(marker)
            return False
        if marker in WRAPPERS:
            if not (self._blocks and self._answer_begins):
                return False
            self._wrapped = WRAPPERS[marker]
            return True
        if marker == self._wrapped:
            self._wrapped = None
            return True
        if self._explained[marker]:
            self._explained[marker] -= 1
            return False
        if marker in CLOSINGS or marker == STRIPPED_FINAL:
            if self._blocks:
                self._mode = "stray"
            else:
                self._take_back()
            return True
        if marker in HEADER:
            self._mode = "header"
            return True
        if marker in HARMONY:
            return True
        return marker in PAIRS and self._opens(marker, written)

    def _note_in_code(self, marker: str) -> None:
        if marker in PAIRS:
            self._explained[PAIRS[marker]] += 1
        elif self._explained[marker]:
            self._explained[marker] -= 1
        elif marker in CLOSINGS:
            self._closing_in_code, self._text.reopened = len(self._given), False

    def _end_in_open_code(self) -> None:
        """Withdraw the text up to a closing tag in a code block that is never closed."""
        at = self._closing_in_code
        if at is None or not (self._text.open_fence or self._text.reopened):
            return
        self._rest, self._at = "".join(self._given[at + 1 :]), 0
        del self._given[at:]
        self._take_back()
        while self._advance():
            pass
        if self._mode == "answer":
            self._say(self._taken_up_to(len(self._rest)))

    def _opens(self, marker: str, written: str) -> bool:
        """Start reasoning at an opening mark unless the answer explains it; return whether it started."""
        text = self._text
        unseen = self._in_prompt or not text.drawn
        if marker in STARTING and text.last:
            return False
        after_thoughts = self._blocks and (text.after_sentence or (text.glued and written in TAGS))
        alone = text.on_own_line and not (text.indented_code or text.introduced or self._about_marks)
        if not (unseen or text.only_prelude or alone or after_thoughts):
            self._explained[PAIRS[marker]] += 1
            self._about_marks = self._about_marks or not text.glued
            return False
        block = None if self._in_prompt else MarkedBlock(self._space + written, certain=unseen)
        self._think_until(IN_TAGS[marker], marker, block)
        return True

    def _advance_reasoning(self) -> bool:
        found = self._markers.find(self._rest, self._at)
        if found is None:
            end = len(self._rest) - self._markers.unfinished(self._rest, self._at)
            self._think(self._taken_up_to(end))
            return False
        at, marker = found
        self._think(self._taken_up_to(at))
        if marker in HEADER:
            self._mode = "header"
            return True
        if marker in PAIRS and not self._block_begins:
            if marker != self._opening:
                self._inner[PAIRS[marker]] += 1
            self._think(self._taken_up_to(at + len(marker)))  # the reasoning explains the mark
            return True
        if marker in CLOSINGS:
            prose = self._closes_in_prose(marker, at + len(marker))
            if prose is None:
                return False
            if prose:
                return True
        if self._block:
            self._block.add(self._rest[at : at + len(marker)])
        self._at += len(marker)
        if marker in PAIRS:
            return True  # repeated, although the prompt or the model has already opened it
        if marker in ENDS:
            self._mode = "header"
        elif marker != MESSAGE:
            self._answer()
        return True

    def _closes_in_prose(self, marker: str, end: int) -> bool | None:
        """Add a closing tag as text if it ends no reasoning; return `None` until the next text is known."""
        if marker != self._closing and self._opening:
            if self._inner[marker]:
                self._inner[marker] -= 1
                self._think(self._taken_up_to(end))
                return True
            after = self._after(end)
            if after is None:
                return None
            quoted = bool(self._thought_last) and self._thought_last[-1] in QUOTES
            if quoted or in_sentence(self._thought_last, after):
                self._think(self._taken_up_to(end))
                return True
        block = self._block
        if block is None or not block.whole or (block.certain and not block.connects):
            return False
        after = self._after(end)
        if after is None:
            return None
        if not block.is_prose(after):
            return False
        self._give_back(block)
        self._give(self._taken_up_to(end))
        self._about_marks = True
        return True

    def _advance_header(self) -> bool:
        """Read the role and channel between the beginning of a turn and its message."""
        end = self._rest.find(MESSAGE, self._at, self._at + _LONGEST_HEADER + len(MESSAGE))
        if end < 0 and len(self._rest) - self._at < _LONGEST_HEADER + len(MESSAGE):
            return False
        self._blocks = True
        if end < 0 or not _is_header(self._rest[self._at : end]):
            # Not a header: the model does not write channels, even if its prompt or text looks like one.
            self._answer()
            opening = next((mark for mark in HEADER if self._rest.startswith(mark, self._at)), "")
            self._say(self._taken_up_to(self._at + len(opening)))
            return True
        header = self._taken_up_to(end)
        self._at += len(MESSAGE)
        _, named, channel = header.rpartition(CHANNEL)
        words = channel.split() if named else ["final"]
        if words[:1] == ["final"] or (words[:1] == ["commentary"] and " to=" not in header):
            self._answer()
        else:
            self._think_until(IN_CHANNEL)
        return True

    def _advance_stray(self) -> bool:
        """Treat the text before a second closing tag as reasoning, too, if more text follows it."""
        if _NOT_SPACE.search(self._rest, self._at) is None:
            return False
        self._take_back()
        return True

    # --- changes of mode --------------------------------------------------------------------------

    def _answer(self) -> None:
        last = self._text.last
        self._joined = bool(last) and not last.isspace()
        self._mode, self._block, self._space, self._answer_begins = "answer", None, "", True
        self._text.new_line()

    def _give_back(self, block: MarkedBlock) -> None:
        """Move text that looked like reasoning to the answer."""
        self._mode, self._block, self._space, self._answer_begins = "answer", None, "", False
        self._thoughts, self._blocks = block.before
        # The part that this call would have returned as reasoning is not returned as such.
        given = list(block.given)
        while given and self._out.reasoning:
            given.pop()
            self._out.reasoning.pop()
        self._out.returned += "".join(given)
        self._give("".join(block.written))

    def _think_until(self, markers: Marks, opening: str = "", block: MarkedBlock | None = None) -> None:
        """Treat the following text as reasoning; with `block`, it may turn out to be part of the answer."""
        self._mode, self._markers, self._block = "reasoning", markers, block
        self._opening, self._closing = opening, PAIRS.get(opening, "")
        self._inner.clear()
        if block:
            block.before = (self._thoughts, self._blocks)
        self._space, self._thought_last, self._block_begins, self._blocks = "", "", True, True

    def _take_back(self) -> None:
        given, self._given = "".join(self._given), []
        self._think_until(self._markers)
        self._think(given)
        self._out.restarts, self._out.answer = True, []
        self._wrapped, self._text, self._about_marks, self._closing_in_code = None, AnswerText(), False, None
        self._explained.clear()
        self._answer()

    # --- returning text ---------------------------------------------------------------------------

    def _think(self, text: str) -> None:
        if self._block:
            self._block.add(text)
        self._thought_last = (self._thought_last + text[-2:])[-2:]
        text = self._space + text
        if self._block_begins:
            text = text.lstrip()
        certain = text.rstrip()
        self._space = text[len(certain) :]
        if certain:
            if self._block_begins and self._thoughts:
                certain = "\n\n" + certain
            self._out.reasoning.append(certain)
            if self._block:
                self._block.given.append(certain)
            self._block_begins, self._thoughts = False, True

    def _say(self, text: str) -> None:
        if self._answer_begins:
            text = self._space + text
            stripped = text.lstrip()
            space = text[: len(text) - len(stripped)]
            self._space = "" if self._blocks and not self._joined else space
            if not stripped:
                return
            if self._joined:
                self._space = "\n\n" if "\n" in space else space[:1]
            text, self._space, self._answer_begins = self._space + stripped, "", False
        self._give(text)

    def _give(self, text: str) -> None:
        if not text:
            return
        self._out.answer.append(text)
        self._given.append(text)
        self._text.add(text)


class _Out:
    """The result of the current call."""

    __slots__ = ("answer", "reasoning", "restarts", "returned")

    def __init__(self) -> None:
        self.reasoning: list[str] = []
        self.answer: list[str] = []
        self.restarts = False
        self.returned = ""


def separate(text: str, prompt_end: str = "") -> tuple[str, str]:
    """Return the reasoning and the answer of a complete text."""
    splitter = ReasoningSplitter(prompt_end)
    reasoning, answer = "", ""
    for split in (splitter.feed(text), splitter.finish()):
        reasoning = reasoning.removesuffix(split.returned) + split.reasoning
        answer = split.answer if split.restarts else answer + split.answer
    return reasoning, answer


def _is_header(text: str) -> bool:
    """Return whether `text` may be the header of a turn, or the beginning of one."""
    role, named, channel = text.partition(CHANNEL)
    return _ROLE_FORM.fullmatch(role) is not None and not (named and channel[:1].isspace())
