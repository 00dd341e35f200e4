"""Whether a tag of reasoning is written about, in the prose of an answer, or acts."""

from __future__ import annotations

import re

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
_LONGEST_RETURNED = 256 * 1024
_BULLET = re.compile(r"\s*(?:[-*+•#>]+|[0-9]{1,3}[.)])\s*")
_CONNECTING = re.compile(
    r"\s*(?:and|or|to|und|oder|et|ou|y|和|与|及|或|到|/|\||,|…|\.\.\.)?\s*", re.IGNORECASE
)
_GOES_ON = re.compile(r" [^\W\d_A-Z]|[.,;:!?)，。、；：！？）]|[\u4e00-\u9fff]")
_LONGEST_CONNECTING = 8


def in_sentence(before: str, after: str) -> bool:
    """Return whether a tag between `before` and `after` stands within a sentence."""
    return _BEFORE_IN_SENTENCE.search(before) is not None and _continues(after)


def _continues(after: str) -> bool:
    """Return whether `after` continues a sentence."""
    return bool(_AFTER_IN_SENTENCE.match(after)) and not (after[0] == " " and after[-1].isupper())


def is_named(before: str, after: str) -> bool:
    """Return whether a closing tag between `before` and `after` is named, as in `the end tag is </think>`."""
    if _BRACKETS.get(before[-1:], "none") == after[:1]:
        return True
    return _NAMED.search(before) is not None and _NAMED_AFTER.match(after) is not None


class MarkedBlock:
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
        """Add `text`, which is forgotten when the block grows too long to be given back."""
        self.size += len(text)
        if self.whole:
            self.written.append(text)
        else:
            self.written, self.given = [], []

    @property
    def whole(self) -> bool:
        """Return whether all of its text is still here."""
        return self.size <= _LONGEST_RETURNED

    @property
    def connects(self) -> bool:
        """Return whether there is only a word between the tags that connects them in prose."""
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
        return _continues(after) and (begins or bool(_BEFORE_IN_SENTENCE.search(text[-2:])))
