"""Turn marks of chat templates in the text of answers and messages.

A server that does not know a model's end-of-turn token returns the mark as text, and with it the text that
follows: an invented next turn of the user. In a text that is sent to a model again, such a mark would be read
as the end of the turn.
"""

from __future__ import annotations

import re
from bisect import bisect_right

_ENDS = (
    *("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|end|>", "<|eot|>"),
    *("<|return|>", "<|call|>", "<|end_of_turn|>", "<|endofturn|>", "<|end_of_sentence|>", "<|eos|>"),
    *("<|END_OF_TURN_TOKEN|>", "<|END_RESPONSE|>", "<|end_of_role|>", "<|observation|>", "<|im_sep|>"),
    *("<end_of_turn>", "<eos>", "<turn|>", "<｜end▁of▁sentence｜>", "<[end▁of▁sentence]>", "[e~["),
)
_STARTS = (
    *("<|im_start|>", "<|start_header_id|>", "<|end_header_id|>", "<|begin_of_text|>", "<|start|>"),
    *("<|user|>", "<|assistant|>", "<|system|>", "<|START_OF_TURN_TOKEN|>", "<|USER_TOKEN|>"),
    *("<|CHATBOT_TOKEN|>", "<|SYSTEM_TOKEN|>", "<|start_of_role|>", "<|im_user|>", "<|im_assistant|>"),
    *("<start_of_turn>", "<bos>", "<|turn>", "<｜User｜>", "<｜Assistant｜>", "<｜begin▁of▁sentence｜>"),
    *("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "]~b]", "]~!b["),
)
_BEGIN_OF_TEXT = ("<|begin_of_text|>", "<bos>", "<｜begin▁of▁sentence｜>")
# In the form that starts a turn: alone on its line, or before a colon or the next mark.
_ROLE = r"(?:user|assistant|system|model|human|tool)(?=[^\S\n]*(?:\Z|[\n:：<\[|]))"
_WORD_JOINER = "\u2060"


def _any(texts: tuple[str, ...]) -> str:
    return "(?:" + "|".join(re.escape(text) for text in sorted(texts, key=len, reverse=True)) + ")"


_THEN_ROLE = r"\s*(?:(?:assistant|model)(?=\s*(?:\n|<|\Z))\s*)?"
_LEADING = re.compile(rf"\s*(?:{_any(_STARTS + _ENDS)}{_THEN_ROLE})+")
# `<s>` and `</s>` are also HTML tags: they are marks only where they cannot be tags.
_LEADING_BOS = re.compile(rf"\s*(?:(?:{_any(_STARTS + _ENDS)}|<s>){_THEN_ROLE})+")
_CLOSED = re.compile(r"</s>\s*\S")
_OVER = re.compile(
    rf"{_any(_ENDS + _STARTS)}"
    rf"(?=\s*(?:\Z|{_any(_STARTS + _ENDS)}|</?s>|{_ROLE})|(?P<prose>[^\S\n]*\n))"
    rf"|(?m:^)[ \t]*\[INST\]"
    rf"|</s>(?=\s*(?:\Z|{_any(_STARTS + _ENDS)}))"
)
_MARKS = re.compile(_any((*_STARTS, *_ENDS, "<s>", "</s>")))
"""A cheap first test, since most answers contain no mark."""
_OTHERS = (
    *("<s>", "</s>", "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[AVAILABLE_TOOLS]"),
    *("[/AVAILABLE_TOOLS]", "[TOOL_CONTENT]", "[ARGS]", "[CALL_ID]", "[MODEL_SETTINGS]", "[/MODEL_SETTINGS]"),
    *(
        "[gMASK]",
        "<sop>",
        "<eop>",
        "<pad>",
        "<unk>",
        "<tool_call>",
        "</tool_call>",
        "<|channel>",
        "<channel|>",
    ),
)
"""Further marks that a model reads, which do not end its own turn."""
_ANY = re.compile(rf"<\|[^|<>\s]{{1,64}}\|>|<｜[^｜<>\s]{{1,64}}｜>|{_any(_STARTS + _ENDS + _OTHERS)}")
_BEGINNINGS = frozenset(text[:size] for text in _STARTS + _ENDS + ("</s>",) for size in range(1, len(text)))
_LONGEST = max(map(len, _BEGINNINGS))
_CODE = re.compile(
    r"^ {0,3}(```+|~~~+).*?(?:^ {0,3}\1|\Z)|(?<!`)(`+)(?!`).+?(?<!`)\2(?!`)", re.DOTALL | re.MULTILINE
)
_NEAR = 16
_GROWTH = 64
_INTRODUCED = re.compile(r"(?::\s+|：\s*)(?:[-*+][^\S\n]+)?\Z")
"""The text before an example: a colon, and possibly the first bullet of a list."""
_QUOTES = "`\"'“‘«「『"


def without_turn_markers(text: str) -> str:
    """Return a model's answer up to the end of its turn, without the marks.

    A mark that the answer explains (in code, in quotation marks, within a sentence, in an example after a
    colon) stays unchanged, because users copy it; `plain_markers` is for the text that a model reads.
    """
    return _own_turn(text) if _MARKS.search(text) else text


class GrowingTurn:
    """The model's own turn in an answer that is still being received, in time linear in its length."""

    def __init__(self) -> None:
        self._searched = 0
        self._marked = False
        self._next = 0

    def of(self, text: str) -> str | None:
        """Return the text to show of the grown `text`; `None` until it has grown more.

        The beginning of a mark at its end is left out. An answer with marks is read again only after it has
        grown by a fixed part of its length.
        """
        if not self._marked:
            start = max(0, self._searched - _LONGEST)
            self._marked, self._searched = _MARKS.search(text, start) is not None, len(text)
        if self._marked:
            if len(text) < self._next:
                return None
            self._next = len(text) + len(text) // _GROWTH
            text = _own_turn(text)
        return text[: len(text) - _unfinished(text)]


def _own_turn(text: str) -> str:
    leading = _LEADING if _CLOSED.search(text) else _LEADING_BOS
    if prefix := leading.match(text):
        text = text[prefix.end() :]
    code = [found.span() for found in _CODE.finditer(text)] if "`" in text or "~~~" in text else []
    starts = [start for start, _ in code]
    length, pairs, example = len(text.rstrip()), "<s>" in text, False
    for found in _OVER.finditer(text):
        at = found.start()
        within = bisect_right(starts, at) - 1
        if (within >= 0 and at < code[within][1]) or text[at - 1 : at] in tuple(_QUOTES):
            continue
        if found[0] == "</s>" and pairs:
            continue
        if found.end() < length:
            introduced = bool(_INTRODUCED.search(text, max(0, at - _NEAR), at))
            example = example or (introduced and found[0] in _STARTS)
            if example or (found["prose"] and (introduced or _mentioned(text, found))):
                continue
        text = text[:at]
        break
    return text


def _mentioned(text: str, found: re.Match[str]) -> bool:
    """Return whether the prose after a mark explains that mark."""
    before = text[max(0, found.start() - _NEAR) : found.start()]
    word = before.rstrip(" \t")
    after_space = word != before and not word.endswith("\n")
    return bool(word) and (after_space or (found[0] in _BEGIN_OF_TEXT and before.endswith("\n")))


def plain_markers(text: str) -> str:
    """Return `text`, which looks the same, with an invisible character in each mark.

    It keeps a server from reading the mark as a token.
    """
    return _ANY.sub(lambda found: found[0][0] + _WORD_JOINER + found[0][1:], text)


def _unfinished(text: str) -> int:
    longest = min(_LONGEST, len(text))
    return next((size for size in range(longest, 0, -1) if text[-size:] in _BEGINNINGS), 0)
