"""Answers in which calls of tools are recognised."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from dataclasses import replace

from clawd_runtime.engine.service import AnswerEvents
from clawd_runtime.engine.tools.parser import ToolCallParser
from clawd_runtime.engine.values import Delta, Event, Failed, Finished


class AnswersWithCalls:
    """The answers of `answers`, in which calls of the tools `names` are no text."""

    def __init__(self, answers: AnswerEvents, names: Collection[str]) -> None:
        self._answers = answers
        self._parsers = [ToolCallParser(names) for _ in range(len(answers))]

    def __len__(self) -> int:
        return len(self._answers)

    async def __aiter__(self) -> AsyncIterator[tuple[int, Event]]:
        async for index, event in self._answers:
            parser = self._parsers[index]
            match event:
                case Delta():
                    if event.restarts:
                        self._parsers[index] = parser = parser.again()
                    found = parser.feed(event.text)
                    if found.text or found.calls or event.reasoning or event.restarts:
                        yield index, replace(event, text=found.text, calls=found.calls)
                case Finished(reason, _):
                    found = parser.finish()
                    if found.text or found.calls:
                        yield index, Delta(found.text, calls=found.calls)
                    called = parser.called and reason == "stop"
                    yield index, replace(event, reason="tool_calls") if called else event
                case Failed():
                    yield index, event

    def cancel(self) -> None:
        """Stop computing; do nothing if the answers are complete."""
        self._answers.cancel()
