"""Recognition of calls in an answer, while it is being written. Text that is no valid call stays text."""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from clawd_runtime.engine.tools.form import CALL, CALL_END, CALL_LIST, PYTHON_TAG
from clawd_runtime.engine.tools.values import ToolCall

_OPENINGS = (CALL, CALL_LIST, PYTHON_TAG)


@dataclass(frozen=True, slots=True)
class Recognised:
    """The next part of an answer: text, then calls."""

    text: str = ""
    calls: tuple[ToolCall, ...] = ()


class ToolCallParser:
    """A reader of one answer that may call the tools `names`; how its text is split changes nothing.

    Recognised are `<tool_call>` with a JSON object (Qwen, Hermes, the generic form), `[TOOL_CALLS]` with a
    list of them (Mistral), and an answer that is nothing but such an object (Llama).
    """

    def __init__(self, names: Collection[str]) -> None:
        self._names = frozenset(names)
        self._held = ""
        self._space = ""  # before the next text, if no call comes first
        self._begun = False
        self.called = False

    def again(self) -> ToolCallParser:
        """Return a parser for the answer from its beginning."""
        return ToolCallParser(self._names)

    def feed(self, text: str) -> Recognised:
        """Return what is certain after the next piece of text."""
        self._held += text
        return self._advance(over=False)

    def finish(self) -> Recognised:
        """Return the rest, at the end of the answer."""
        rest = self._advance(over=True)
        if self.called:
            return rest
        space, self._space = self._space, ""
        return Recognised(rest.text + space)

    def _advance(self, *, over: bool) -> Recognised:
        texts: list[str] = []
        calls: list[ToolCall] = []
        while self._held and (size := self._size_of_next(over=over)):
            piece, self._held = self._held[:size], self._held[size:]
            found = self._calls(_inside(piece)) if self._is_block(piece) else ()
            if found:
                calls += found
                self._space, self._begun, self.called = "", True, True
            else:
                texts.append(self._spaced(piece))
        return Recognised("".join(texts), tuple(calls))

    def _size_of_next(self, *, over: bool) -> int:
        """Return the length of the next text or block; 0 if more must arrive first."""
        held = self._held
        if not self._begun and held.lstrip()[:1] in ("", "{"):
            return len(held) if over else 0
        at = min((at for mark in _OPENINGS if (at := held.find(mark)) >= 0), default=-1)
        if at > 0:
            return at
        if at < 0:
            return len(held) if over else len(held) - max(_overlap(held, mark) for mark in _OPENINGS)
        ends = [held.find(CALL_END) + len(CALL_END)] if held.startswith(CALL) and CALL_END in held else []
        following = held.find(CALL, 1)
        if following > 0:
            ends.append(following)  # the model has left out the end of this one
        return min(ends) if ends else len(held) * over

    def _is_block(self, piece: str) -> bool:
        return piece.startswith(_OPENINGS) or (not self._begun and piece.lstrip()[:1] == "{")

    def _spaced(self, text: str) -> str:
        """Return the text that is shown now: white space only once text follows it, and none after a call."""
        text = self._space + text
        if self.called:
            text = text.lstrip()
        shown = text.rstrip()
        self._space = text[len(shown) :]
        self._begun = self._begun or bool(shown)
        return shown

    def _calls(self, text: str) -> tuple[ToolCall, ...]:
        """Return the calls that `text` consists of; none if it is anything else."""
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return ()
        values = value if isinstance(value, list) else [value]
        calls = [self._call(each) for each in values]
        return tuple(call for call in calls if call is not None) if all(calls) else ()

    def _call(self, value: Any) -> ToolCall | None:
        name = value.get("name") if isinstance(value, dict) else None
        if not isinstance(name, str) or name not in self._names:
            return None
        arguments = value.get("arguments", value.get("parameters", {}))
        if isinstance(arguments, str):
            # Some models write the object as a string.
            try:
                arguments = json.loads(arguments)
            except (ValueError, RecursionError):
                return None
        if not isinstance(arguments, dict):
            return None
        text = json.dumps(arguments, ensure_ascii=False)
        return ToolCall(f"call_{uuid.uuid4().hex[:24]}", name, text)


def _inside(block: str) -> str:
    """Return a block without its marks."""
    block = block.strip().removesuffix(CALL_END)
    return next((block.removeprefix(mark) for mark in _OPENINGS if block.startswith(mark)), block).strip()


def _overlap(text: str, mark: str) -> int:
    """Return the length of the longest end of `text` that is an incomplete beginning of `mark`."""
    return next(
        (size for size in range(min(len(text), len(mark) - 1), 0, -1) if text.endswith(mark[:size])), 0
    )
