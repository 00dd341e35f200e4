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
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from clawd_runtime.answer_text import QUOTES, AnswerText
from clawd_runtime.patterns import any_of

TAGS: dict[str, str] = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
    "<thoughts>": "</thoughts>",
    "<reasoning>": "</reasoning>",
    "<reflection>": "</reflection>",
    "<scratchpad>": "</scratchpad>",
    "<seed:think>": "</seed:think>",
    "<mm:think>": "</mm:think>",
    "<think:opensource>": "</think:opensource>",
    "<longcat_think>": "</longcat_think>",
    "[THINK]": "[/THINK]",
    "[THINKING]": "[/THINKING]",
    "<|think|>": "<|/think|>",
    "<|thinking|>": "<|/thinking|>",
    "<|thought|>": "<|/thought|>",
    "<|reasoning|>": "<|/reasoning|>",
    "◁think▷": "◁/think▷",
    "<|begin_of_thought|>": "<|end_of_thought|>",
    "<|START_THINKING|>": "<|END_THINKING|>",
    "<|inner_prefix|>": "<|inner_suffix|>",
    "<|channel>thought": "<channel|>",
    "<unused94>thought": "<unused95>",
}
"""Opening and closing tags, compared case-insensitively."""

CLOSING_MARK = "</think>"
"""The most widely supported mark."""

_SENTENCES = {"Here is my thought process:": "Here is my response:"}  # Granite's; only at the beginning
_STARTING = {sentence.lower() for sentence in _SENTENCES}
_PAIRS = {opening.lower(): closing.lower() for opening, closing in (TAGS | _SENTENCES).items()}
# Other closing tags. Any closing tag closes any opening one, since models mix them up.
_FURTHER_CLOSINGS = {
    *("<|end_think|>", "<|end_thinking|>", "<|end_of_thinking|>", "</|think|>", "</|thinking|>"),
    *("<|endthink|>", "<|endthinking|>", "<|end_reasoning|>", "<|end_thought|>"),
}
_CLOSINGS = {closing.lower() for closing in TAGS.values()} | _FURTHER_CLOSINGS

# Tags around the answer itself, after reasoning; they are removed.
_WRAPPERS = {
    "<answer>": "</answer>",
    "<response>": "</response>",
    "<output>": "</output>",
    "<|begin_of_solution|>": "<|end_of_solution|>",
    "<|start_response|>": "<|end_response|>",
}

_START, _CHANNEL = "<|start|>", "<|channel|>"
_HEADER = (_START, _CHANNEL)
_MESSAGE = "<|message|>"
_ENDS = ("<|end|>", "<|return|>", "<|call|>")
_HARMONY = (*_HEADER, _MESSAGE, *_ENDS)
_LONGEST_HEADER = 256
_STRIPPED_START, _STRIPPED_FINAL = "analysis", "assistantfinal"

_BEFORE_IN_SENTENCE = re.compile(r"[\w,;，、；] \Z")
_AFTER_IN_SENTENCE = re.compile(r" [^\W\d_]|[.,;:!?)，。、；：！？）]")
# What else shows that a closing tag is written about: a word before it, and the first character after it.
_NAMED = re.compile(
    r"\b(?:tag|token|mark|marker|delimiter|string|sequence)s?(?: (?:is|are|called|named|like))?:? \Z"
    r"|\b(?:ends?|ended|closed?|closes|closing|terminated|followed|begins?|starts?) (?:with|by|at) \Z"
    r"|(?:在|以|用|到|是|为|即|叫|和|与|及|或|的|写上?|加上?|把|将|由|遇到|看到|使用|插入|添加|输出) ?\Z"
    r"|(?:标签|标记|符号) ?\Z",
    re.IGNORECASE,
)
_NAMED_AFTER = re.compile(r"[\n.,;:!?)，。、；：！？）之后前中里内处时结来表是作标这符开为和与或用代意]| ?\Z")
_BRACKETS = {"(": ")", "[": "]", "{": "}", "（": "）", "【": "】"}
_LONGEST_PROSE = 500
# The role and recipient of a turn: `assistant to=functions.f<|constrain|>json`.
_ROLE_FORM = re.compile(r"\s*(?:<\|start\|>)?[\w.:/-]*(?: ?to=[\w.:/-]*)?(?: ?<\|constrain\|> ?\w*)?\s?")
_LONGEST_RETURNED = 256 * 1024
_NOT_SPACE = re.compile(r"\S")
_BULLET = re.compile(r"\s*(?:[-*+•#>]+|[0-9]{1,3}[.)])\s*")
_CONNECTING = re.compile(
    r"\s*(?:and|or|to|und|oder|et|ou|y|和|与|及|或|到|/|\||,|…|\.\.\.)?\s*", re.IGNORECASE
)
_GOES_ON = re.compile(r" [^\W\d_A-Z]|[.,;:!?)，。、；：！？）]|[\u4e00-\u9fff]")
_LONGEST_CONNECTING = 8


class _Markers:
    """A set of texts to search for, of which none is a prefix of another."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = tuple(sorted({text.lower() for text in texts}))
        self._found = re.compile(any_of(self.texts), re.IGNORECASE)
        self._beginnings = {text[:size] for text in self.texts for size in range(1, len(text))}
        self._longest = max(map(len, self.texts)) - 1

    def find(self, text: str, start: int) -> tuple[int, str] | None:
        """Return position and lower-case text of the first one in `text` from `start` on; None for none."""
        found = self._found.search(text, start)
        return (found.start(), found[0].lower()) if found else None

    def written(self, text: str) -> frozenset[str]:
        """Return those that occur in `text`, as they are written there."""
        return frozenset(self._found.findall(text))

    def unfinished(self, text: str, start: int) -> int:
        """Return how many characters at the end of `text[start:]` may be the beginning of one."""
        longest = min(self._longest, len(text) - start)
        return next((size for size in range(longest, 0, -1) if text[-size:].lower() in self._beginnings), 0)


_EVERYWHERE = {*_PAIRS, *_CLOSINGS, *_WRAPPERS, *_WRAPPERS.values(), *_HARMONY, _STRIPPED_FINAL}
_AT_START = _Markers(_EVERYWHERE)
_IN_ANSWER = _Markers(_EVERYWHERE - _STARTING)
_IN_CHANNEL = _Markers(_HARMONY)
_IN_STRIPPED = _Markers([_STRIPPED_FINAL])
_TAG_MARKERS = _Markers({*map(str.lower, TAGS), *_CLOSINGS})
_IN_TAGS = {
    opening: _Markers([opening, closing]) if opening in _STARTING else _TAG_MARKERS
    for opening, closing in _PAIRS.items()
}


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
        self._markers = _IN_CHANNEL  # of the reasoning
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
        self._block: _Block | None = None  # text that may turn out not to be reasoning
        self._out = _Out()

    @property
    def reasoning(self) -> bool:
        """Whether the text that follows is reasoning, as far as is known."""
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
        markers = _IN_ANSWER
        if self._answer_begins and not self._blocks:
            markers = _AT_START
            begins = _NOT_SPACE.search(self._rest, self._at)
            at = begins.start() if begins else len(self._rest)
            text = self._rest[at : at + len(_STRIPPED_START) + 1]
            if text and _STRIPPED_START.startswith(text):
                return False
            if text.startswith(_STRIPPED_START) and text[-1].isupper():
                opening = self._rest[self._at : at + len(_STRIPPED_START)]
                self._at = at + len(_STRIPPED_START)
                self._think_until(_IN_STRIPPED, "", _Block(self._space + opening, certain=False))
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
        if mentioned and marker in _CLOSINGS:
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
        if marker == _STRIPPED_FINAL and self._rest[at:end] != marker:
            return True
        if self._in_prompt or not (marker in _CLOSINGS or marker in _HARMONY or marker == _STRIPPED_FINAL):
            return False
        after = self._after(end)
        if after is None:
            return None
        text, following = self._text, after[:1]
        if marker == _STRIPPED_FINAL:
            alone = text.last == " " and not (following.isalnum() or following in "*#")
            return following.islower() or following == "_" or (bool(following) and alone)
        if _BEFORE_IN_SENTENCE.search(text.last_two) and _in_sentence(after):
            return True
        if marker in _HEADER:
            return text.last == " " and not (following.isalnum() or following == "<")
        return marker in _CLOSINGS and text.size <= _LONGEST_PROSE and _is_named(text.recent, after)

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
        if marker in _WRAPPERS:
            if not (self._blocks and self._answer_begins):
                return False
            self._wrapped = _WRAPPERS[marker]
            return True
        if marker == self._wrapped:
            self._wrapped = None
            return True
        if self._explained[marker]:
            self._explained[marker] -= 1
            return False
        if marker in _CLOSINGS or marker == _STRIPPED_FINAL:
            if self._blocks:
                self._mode = "stray"
            else:
                self._take_back()
            return True
        if marker in _HEADER:
            self._mode = "header"
            return True
        if marker in _HARMONY:
            return True
        return marker in _PAIRS and self._opens(marker, written)

    def _note_in_code(self, marker: str) -> None:
        if marker in _PAIRS:
            self._explained[_PAIRS[marker]] += 1
        elif self._explained[marker]:
            self._explained[marker] -= 1
        elif marker in _CLOSINGS:
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
        if marker in _STARTING and text.last:
            return False
        after_thoughts = self._blocks and (text.after_sentence or (text.glued and written in TAGS))
        alone = text.on_own_line and not (text.indented_code or text.introduced or self._about_marks)
        if not (unseen or text.only_prelude or alone or after_thoughts):
            self._explained[_PAIRS[marker]] += 1
            self._about_marks = self._about_marks or not text.glued
            return False
        block = None if self._in_prompt else _Block(self._space + written, certain=unseen)
        self._think_until(_IN_TAGS[marker], marker, block)
        return True

    def _advance_reasoning(self) -> bool:
        found = self._markers.find(self._rest, self._at)
        if found is None:
            end = len(self._rest) - self._markers.unfinished(self._rest, self._at)
            self._think(self._taken_up_to(end))
            return False
        at, marker = found
        self._think(self._taken_up_to(at))
        if marker in _HEADER:
            self._mode = "header"
            return True
        if marker in _PAIRS and not self._block_begins:
            if marker != self._opening:
                self._inner[_PAIRS[marker]] += 1
            self._think(self._taken_up_to(at + len(marker)))  # the reasoning explains the mark
            return True
        if marker in _CLOSINGS:
            prose = self._closes_in_prose(marker, at + len(marker))
            if prose is None:
                return False
            if prose:
                return True
        if self._block:
            self._block.add(self._rest[at : at + len(marker)])
        self._at += len(marker)
        if marker in _PAIRS:
            return True  # repeated, although the prompt or the model has already opened it
        if marker in _ENDS:
            self._mode = "header"
        elif marker != _MESSAGE:
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
            if quoted or (_BEFORE_IN_SENTENCE.search(self._thought_last) and _in_sentence(after)):
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
        end = self._rest.find(_MESSAGE, self._at, self._at + _LONGEST_HEADER + len(_MESSAGE))
        if end < 0 and len(self._rest) - self._at < _LONGEST_HEADER + len(_MESSAGE):
            return False
        self._blocks = True
        if end < 0 or not _is_header(self._rest[self._at : end]):
            # Not a header: the model does not write channels, even if its prompt or text looks like one.
            self._answer()
            opening = next((mark for mark in _HEADER if self._rest.startswith(mark, self._at)), "")
            self._say(self._taken_up_to(self._at + len(opening)))
            return True
        header = self._taken_up_to(end)
        self._at += len(_MESSAGE)
        _, named, channel = header.rpartition(_CHANNEL)
        words = channel.split() if named else ["final"]
        if words[:1] == ["final"] or (words[:1] == ["commentary"] and " to=" not in header):
            self._answer()
        else:
            self._think_until(_IN_CHANNEL)
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

    def _give_back(self, block: _Block) -> None:
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

    def _think_until(self, markers: _Markers, opening: str = "", block: _Block | None = None) -> None:
        """Treat the following text as reasoning; with `block`, it may turn out to be part of the answer."""
        self._mode, self._markers, self._block = "reasoning", markers, block
        self._opening, self._closing = opening, _PAIRS.get(opening, "")
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


def _in_sentence(after: str) -> bool:
    """Return whether `after` continues a sentence."""
    return bool(_AFTER_IN_SENTENCE.match(after)) and not (after[0] == " " and after[-1].isupper())


def _is_named(before: str, after: str) -> bool:
    """Return whether a closing tag between `before` and `after` is named, as in `the end tag is </think>`."""
    if _BRACKETS.get(before[-1:], "none") == after[:1]:
        return True
    return _NAMED.search(before) is not None and _NAMED_AFTER.match(after) is not None


def _is_header(text: str) -> bool:
    """Return whether `text` may be the header of a turn, or the beginning of one."""
    role, named, channel = text.partition(_CHANNEL)
    return _ROLE_FORM.fullmatch(role) is not None and not (named and channel[:1].isspace())


class _Block:
    """Text that looks like reasoning but may be part of the answer, with its opening mark.

    `certain`: no visible text is before it, so that only a text about the marks themselves makes it prose.
    """

    __slots__ = ("before", "certain", "given", "size", "written")

    def __init__(self, opening: str, *, certain: bool) -> None:
        self.written = [opening]
        self.given: list[str] = []  # the pieces of it returned as reasoning
        self.size = 0
        self.certain = certain
        self.before = (False, False)

    def add(self, text: str) -> None:
        self.size += len(text)
        if self.whole:
            self.written.append(text)
        else:
            self.written, self.given = [], []

    @property
    def whole(self) -> bool:
        return self.size <= _LONGEST_RETURNED

    @property
    def connects(self) -> bool:
        """Whether there is only a word between the tags that connects them in prose."""
        return self.size <= _LONGEST_CONNECTING and bool(_CONNECTING.fullmatch("".join(self.written[1:])))

    def is_prose(self, after: str) -> bool:
        """Return whether the text between the tags, and `after` them, is about the tags."""
        text = "".join(self.written[1:])
        if self.connects and _GOES_ON.match(after):
            return not self.certain or text.strip() not in ("", "...")
        if self.certain:
            return False
        _, ended, line = text.rpartition("\n")
        if ended and _BULLET.fullmatch(line):
            return True
        begins = bool(_GOES_ON.match(text[:2]))
        return _in_sentence(after) and (begins or bool(_BEFORE_IN_SENTENCE.search(text[-2:])))


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


def marks_in(template: str) -> frozenset[str]:
    """Return the marks of reasoning that the chat template `template` contains, as it writes them."""
    known = [*TAGS, *TAGS.values(), *(_HARMONY if _CHANNEL in template else ())]
    return _Markers(known).written(template)
