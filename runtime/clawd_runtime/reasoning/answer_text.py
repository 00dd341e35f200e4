"""The text before a mark of reasoning in an answer, which decides whether the mark acts or is quoted."""

from __future__ import annotations

import re
import unicodedata

from clawd_runtime.visible import is_drawn

QUOTES = "`\"'“”‘’«»「」『』"
_LONGEST_HEAD = 80
_LONGEST_LINE = 160
_LONGEST_TAIL = 8
_LONGEST_RECENT = 48
_FENCE = re.compile(r" {0,3}(?P<fence>`{3,}|~{3,})(?P<info>.*)", re.DOTALL)
_INDENTED = re.compile(r"(?: {4}| {0,3}\t)")
_EMPHASIS = "*_"
_LABELS = (
    "assistant|ai|bot|chatbot|model|gpt|answer|response|reply|output|finalanswer|thinking|thoughts?"
    "|(?:thought|thinking|reasoning)process|reasoning|analysis"
    "|助手|助理|机器人|回答|回复|答复|答案|思考|推理|分析|(?:思考|推理|分析)过程"
)
_NAMES = (
    "qwen|qwq|deepseek|llama|gemma|mistral|magistral|claude|clawd|gemini|glm|kimi|phi|granite|grok|chatgpt"
)
# Turn marks, and HTML without attributes.
_MARK = r"<\|[^|<>]{1,40}\|>|<｜[^｜<>]{1,40}｜>|</?[A-Za-z][A-Za-z0-9_]{0,20}/?>|\[/?INST\]"
_PRELUDE = re.compile(
    rf"(?:{_MARK}|[*_#>~=\-–—.…])*(?:[\[(【（]?(?:{_LABELS}|{_NAMES})[\])】）]?)?(?:{_MARK}|[*_:：#>\-])*",
    re.IGNORECASE,
)
_THINKING = re.compile(
    r"\W*(?:"
    r"(?:let me|let[’']s|let us|i|i[’']ll|i[’']m|first)\b.*"
    r"\b(?:think|thinking|reason|consider|analy[sz]e|reflect|figure|work|check|break|plan|see)\b"
    r"|(?:my )?(?:thinking|thoughts?|reasoning|analysis|scratchpad|plan)(?: process)?\W*\Z"
    r"|(?:让我|我|先).*(?:想|思考|考虑|分析|推理)"
    r"|(?:思考|推理|分析)(?:过程)?\W*\Z"
    r")",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?。！？…)）\]】*_~]\s*\Z")
_GLUED = re.compile(r"[A-Za-z0-9]\Z")


class AnswerText:
    """The text of an answer so far. How it is split into pieces does not change the result."""

    def __init__(self) -> None:
        self.reopened = False
        """Whether another code block begins within an unclosed one. The caller may reset it."""
        self.size = 0
        """Number of characters."""
        self._head = ""  # the first visible characters
        self._previous = ("", "")  # beginning and end of the last visible line before this one
        self._fence = ""
        self.new_line()

    def new_line(self) -> None:
        """Forget the text before on the line, after the end of a mark."""
        self.last_two = self.recent = ""
        self._line = self._tail = ""
        self._only_emphasis = True

    def add(self, text: str) -> None:
        """Add the following text."""
        if not text:
            return
        if len(self._head) < _LONGEST_HEAD:
            self._head = (self._head + "".join(filter(_counts, text)))[:_LONGEST_HEAD]
        last_two = (self.last_two + text[-2:])[-2:]
        recent = (self.recent + text)[-_LONGEST_RECENT:]
        self.size += len(text)
        *ended, line = text.split("\n")
        for each in ended:
            self._extend(each)
            self._end_line()
        self._extend(line)
        self.last_two, self.recent = last_two, recent

    def _extend(self, text: str) -> None:
        self._line += text[: _LONGEST_LINE - len(self._line)]
        self._tail = (self._tail + text.rstrip())[-_LONGEST_TAIL:] if text.strip() else self._tail
        self._only_emphasis = self._only_emphasis and not any(
            character not in _EMPHASIS and is_drawn(character) for character in text
        )

    def _end_line(self) -> None:
        found = _FENCE.match(self._line)
        if found is not None and self._fence:
            if found["fence"].startswith(self._fence):
                if found["info"].strip():
                    self.reopened = True
                else:
                    self._fence = ""
        elif found is not None and not (found["fence"][0] == "`" and "`" in found["info"]):
            self._fence = found["fence"]
        if not self._only_emphasis:
            self._previous = (self._line, self._tail)
        self.new_line()

    @property
    def last(self) -> str:
        """Return the last character; empty directly after a mark."""
        return self.last_two[-1:]

    @property
    def drawn(self) -> bool:
        """Return whether there is any visible text."""
        return bool(self._head)

    @property
    def only_prelude(self) -> bool:
        """Return whether there is only markup, or a label such as `Assistant:`."""
        return len(self._head) < _LONGEST_HEAD and _PRELUDE.fullmatch(self._head) is not None

    @property
    def open_fence(self) -> bool:
        """Return whether a code block is unclosed."""
        return bool(self._fence)

    @property
    def in_code(self) -> bool:
        """Return whether the following text is within a code block, or within the line that opens one."""
        return bool(self._fence) or _FENCE.match(self._line) is not None

    @property
    def indented_code(self) -> bool:
        """Return whether the following text begins a line that is indented like code."""
        return self._only_emphasis and _INDENTED.match(self._line) is not None

    @property
    def quoted(self) -> bool:
        """Return whether the last character is a quotation mark."""
        return bool(self.last) and self.last in QUOTES

    @property
    def on_own_line(self) -> bool:
        """Return whether the line is empty so far, except for emphasis."""
        return self._only_emphasis

    @property
    def introduced(self) -> bool:
        """Return whether the previous line ends with a colon, announcing an example, not reasoning."""
        line, tail = self._previous
        return tail.rstrip(_EMPHASIS).endswith((":", "：")) and not _THINKING.match(line)

    @property
    def after_sentence(self) -> bool:
        """Return whether a sentence has just ended on the same line."""
        return _SENTENCE_END.search(self._tail) is not None

    @property
    def glued(self) -> bool:
        """Return whether the last character is a Latin letter or a digit, as in `List<T>`."""
        return _GLUED.search(self.last_two) is not None


def _counts(character: str) -> bool:
    return is_drawn(character) and unicodedata.category(character) != "So"
