"""Marks with which chat templates separate the turns of a conversation, where they stand in a text.

A server that does not know a model's end of turn passes the mark on as text, and whatever the model goes on
to write: the next turn of the user, made up. In a text that is sent to a model again, such a mark would be
read as the end of the turn.
"""

from __future__ import annotations

import re

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
_ROLE = r"(?:user|assistant|system|model|human|tool)"
_WORD_JOINER = "\u2060"


def _any(texts: tuple[str, ...]) -> str:
    return "(?:" + "|".join(re.escape(text) for text in sorted(texts, key=len, reverse=True)) + ")"


_THEN_ROLE = r"\s*(?:(?:assistant|model)(?=\s*(?:\n|<|\Z))\s*)?"
_LEADING = re.compile(rf"\s*(?:{_any(_STARTS + _ENDS)}{_THEN_ROLE})+")
# `<s>` and `</s>` are also HTML's: marks only where nothing else can be meant.
_LEADING_BOS = re.compile(rf"\s*(?:(?:{_any(_STARTS + _ENDS)}|<s>){_THEN_ROLE})+")
_CLOSED = re.compile(r"</s>\s*\S")
_OVER = re.compile(
    rf"{_any(_ENDS + _STARTS)}(?=\s*(?:\Z|\n|{_any(_STARTS + _ENDS)}|</?s>|{_ROLE}\b))"
    rf"|(?m:^)[ \t]*\[INST\]"
    rf"|</s>(?=\s*(?:\Z|{_any(_STARTS + _ENDS)}))"
)
_HINTS = (
    "<|",
    "|>",
    "<｜",
    "_turn>",
    "<eos>",
    "<bos>",
    "<[end",
    "INST]",
    "SYS>>",
    "_PROMPT]",
    "]~",
    "[e~[",
    "s>",
)
"""One of these is in each mark: finding none costs little, and an answer is looked at with every token."""
_ANY = re.compile(_any(_STARTS + _ENDS))
_BEGINNINGS = frozenset(text[:size] for text in _STARTS + _ENDS + ("</s>",) for size in range(1, len(text)))
_LONGEST = max(map(len, _BEGINNINGS))
_CODE = re.compile(
    r"^ {0,3}(```+|~~~+).*?(?:^ {0,3}\1|\Z)|(`+)(?!`).+?(?<!`)\2(?!`)", re.DOTALL | re.MULTILINE
)
_QUOTES = "`\"'“‘«「『"


def without_turn_markers(text: str, *, growing: bool = False) -> str:
    """Return a model's answer up to where its turn ended, without the marks.

    A mark that the answer is about (in code, in quotation marks, within a sentence) stays as it is: people
    copy it. `plain_markers` is for what a model reads. With `growing` the beginning of a mark at the end is
    left out, too.
    """
    if any(hint in text for hint in _HINTS):
        text = _own_turn(text)
    if growing:
        text = text[: len(text) - _unfinished(text)]
    return text


def _own_turn(text: str) -> str:
    leading = _LEADING if _CLOSED.search(text) else _LEADING_BOS
    if begun := leading.match(text):
        text = text[begun.end() :]
    code = [found.span() for found in _CODE.finditer(text)] if "`" in text or "~~~" in text else []
    for found in _OVER.finditer(text):
        at = found.start()
        if any(start <= at < end for start, end in code) or text[at - 1 : at] in tuple(_QUOTES):
            continue
        if found[0] == "</s>" and "<s>" in text:
            continue
        text = text[:at]
        break
    return text


def plain_markers(text: str) -> str:
    """Return `text` with the marks in it made ordinary text; it looks the same.

    An invisible character in each of them keeps a server from reading it as a mark.
    """
    return _ANY.sub(lambda found: found[0][0] + _WORD_JOINER + found[0][1:], text)


def _unfinished(text: str) -> int:
    longest = min(_LONGEST, len(text))
    return next((size for size in range(longest, 0, -1) if text[-size:] in _BEGINNINGS), 0)
