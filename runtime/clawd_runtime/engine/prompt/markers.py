"""Neutralisation of a chat template's turn marks in the text of messages.

A message must not be able to forge a turn of another role. There are two kinds of marks:

- texts of special tokens (`<|im_start|>` where it is one): the prompt is cut inside them, and its pieces are
  tokenized one by one, so that the text stays unchanged and never becomes the token;
- marks that are ordinary text to the tokenizer (`[INST]`, `### Instruction:`): the model sees nothing but
  their text, so an invisible character is inserted where a message contains them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from clawd_runtime.patterns import any_of

# Where the prompt is cut: a noncharacter code point, which never occurs in text for interchange.
CUT = "\ufdd0"
_WORD_JOINER = "\u2060"
_REPLACEMENT = "\ufffd"

_BRACKETED = re.compile(
    r"<\|[^|<>\s]{1,40}\|>|<\|[A-Za-z_]{1,40}>|<[A-Za-z_]{1,40}\|>|<｜[^｜<>]{1,40}｜>|</?[A-Za-z_][\w:.-]{0,40}>"
    r"|<</?[A-Z]{1,40}>>|\[/?[A-Z][A-Z_]{1,40}\]|◁[^◁▷]{1,40}▷"
)
_LABEL = re.compile(r"(?:^|[\s>])((?:#{2,6} ?[^\W\d_][\w ]{0,40}[:：]?)|(?:[^\W\d_][\w ]{0,40}[:：]))\s*\Z")
_ROLES = ("system", "user", "assistant", "tool", "function", "developer")

# Of the formats that most models have seen in training, even if their own format is another.
WELL_KNOWN = frozenset(
    [
        "<|im_start|>",
        "<|im_end|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
        "<|begin_of_text|>",
        "<|endoftext|>",
        "<|system|>",
        "<|user|>",
        "<|assistant|>",
        "<|tool|>",
        "<|end|>",
        "<|start|>",
        "<|message|>",
        "<|channel|>",
        "<|return|>",
        "<|call|>",
        "[INST]",
        "[/INST]",
        "<<SYS>>",
        "<</SYS>>",
        "[SYSTEM_PROMPT]",
        "[/SYSTEM_PROMPT]",
        "<start_of_turn>",
        "<end_of_turn>",
        "<|turn>",
        "<turn|>",
        "<｜User｜>",
        "<｜Assistant｜>",
    ]
)


def marks_of(literals: Iterable[str], rendered: Iterable[str]) -> frozenset[str]:
    """Return the texts with which a template marks turns.

    `literals` are the constant texts of its source; `rendered` is what it writes around messages, each up to
    the beginning of a message (the last one: of the answer).
    """
    marks: set[str] = set()
    for text in literals:
        marks.update(_BRACKETED.findall(text))
    for text in rendered:
        for mark in _BRACKETED.findall(text):
            marks.add(mark)
            marks.update(mark.replace(role, other) for role in _ROLES if role in mark for other in _ROLES)
        label = _LABEL.search(_BRACKETED.sub("\n", text))
        if label is not None:
            marks.add(label[1])
    return frozenset(marks)


class Neutraliser:
    """A function that makes special tokens (`special`), other `marks` and well-known marks plain text."""

    def __init__(self, special: Iterable[str], marks: Iterable[str]) -> None:
        self._special = frozenset(text for text in special if len(text) > 1)
        texts = self._special | WELL_KNOWN | {mark for mark in marks if len(mark) > 1}
        self._found = re.compile(any_of(texts))

    def __call__(self, text: str) -> str:
        """Return `text` with a cut or an invisible character in each mark."""
        return self._found.sub(self._broken, text.replace(CUT, _REPLACEMENT))

    def _broken(self, found: re.Match[str]) -> str:
        mark = found[0]
        return mark[0] + (CUT if mark in self._special else _WORD_JOINER) + mark[1:]
