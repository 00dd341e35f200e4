"""The requests that wait for answers: what each has seen, and how its answer ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from clawd_runtime.bot.ports import Inbox, StoredAnswer
from clawd_runtime.bot.values import Inbound
from clawd_runtime.errors import StoreError

KEEP_ALIVE = 15.0
# Another bot on the same database may make the answer, and it cannot reach the client that waits here.
ELSEWHERE = 2.0
UNANSWERED = {"message": "no answer: too many messages within a minute", "hint": "wait a minute"}
STOPPING = {
    "message": "no answer yet: the bot is restarting",
    "hint": "repeat the request with the same id within the lifetime of its token",
}


class Stream:
    """The state of the answer that a request waits for."""

    def __init__(self) -> None:
        self.text = ""
        self.repeated = False
        self.notice = ""
        self.ending: tuple[str, dict[str, str]] | None = None
        self._news = asyncio.Event()

    def grow(self, text: str) -> None:
        """Set the answer so far."""
        self.text = text
        self._news.set()

    def wait(self, notice: str) -> None:
        """Set the notice that the message waits."""
        self.notice = notice
        self._news.set()

    def end(self, event: str, data: dict[str, str]) -> None:
        """Set the final event; only the first call counts."""
        self.ending = self.ending or (event, data)
        self._news.set()

    async def news(self, seconds: float) -> bool:
        """Wait for a change; return False if there was none within `seconds`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()
        changed = self._news.is_set()
        self._news.clear()
        return changed


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """A change of an answer.

    `idle`: nothing changed for a while. `waiting`: `data` has the notice that the message waits. `growing`:
    `data` has the text of the whole answer so far. `done` and `error` are the last event.
    """

    kind: Literal["idle", "waiting", "growing", "done", "error"]
    data: dict[str, str]

    @property
    def text(self) -> str:
        """The text of the event; empty for an error."""
        return self.data.get("text", "")


class AnswerStreams:
    """The streams of a channel, by the event whose answer they show."""

    def __init__(self, channel: str) -> None:
        self._channel = channel
        self._streams: dict[str, set[Stream]] = {}
        self._closed = False

    def of(self, event_id: str) -> tuple[Stream, ...]:
        """Return the streams that wait for the answer to an event."""
        return tuple(self._streams.get(event_id, ()))

    def __len__(self) -> int:
        """Return how many events are waited for."""
        return len(self._streams)

    def close(self) -> None:
        """End the streams whose answers will not be made in this run."""
        self._closed = True
        for streams in self._streams.values():
            for stream in streams:
                stream.end("error", STOPPING)

    async def accept(self, inbox: Inbox, inbound: Inbound) -> Stream:
        """Store a message and return a stream of its answer, which must be left with `leave`."""
        stream = Stream()
        self._streams.setdefault(inbound.event_id, set()).add(stream)
        try:
            if not await inbox.store(inbound):
                stream.repeated = True
                await self._look_elsewhere(inbox, inbound, stream)
        except BaseException:
            self.leave(inbound, stream)
            raise
        if self._closed:
            stream.end("error", STOPPING)
        return stream

    async def events(self, inbox: Inbox, inbound: Inbound, stream: Stream) -> AsyncIterator[StreamEvent]:
        """Yield the changes of an answer, the last of them its ending."""
        shown = ""
        while stream.ending is None:
            if not await stream.news(ELSEWHERE if stream.repeated else KEEP_ALIVE):
                yield StreamEvent("idle", {})
                with suppress(StoreError):
                    await self._look_elsewhere(inbox, inbound, stream)
                continue
            if stream.notice:
                notice, stream.notice = stream.notice, ""
                yield StreamEvent("waiting", {"text": notice})
            if stream.text != shown:
                shown = stream.text
                yield StreamEvent("growing", {"text": shown})
        # An answer that arrived together with its end is also shown as growing first.
        if stream.text != shown:
            yield StreamEvent("growing", {"text": stream.text})
        event, data = stream.ending
        yield StreamEvent("done" if event == "done" else "error", data)

    def leave(self, inbound: Inbound, stream: Stream) -> None:
        """Forget a stream, whose client has its answer or is gone."""
        waiting = self._streams[inbound.event_id]
        waiting.discard(stream)
        if not waiting:
            del self._streams[inbound.event_id]

    async def _look_elsewhere(self, inbox: Inbox, inbound: Inbound, stream: Stream) -> None:
        answer = await inbox.answer_to(self._channel, inbound.event_id)
        if answer is not None:
            stream.end(*_ending(answer))


class EventStreamResponse(StreamingResponse):
    """A stream of server-sent events; `leave` is called when it ends or the client disconnects."""

    def __init__(self, content: AsyncIterator[bytes], leave: Callable[[], None]) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(content, media_type="text/event-stream", headers=headers)
        self._leave = leave

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        # Not in the generator: it never starts if the client disconnects early.
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._leave()


def sse(name: str, data: Mapping[str, object]) -> bytes:
    """Return a server-sent event."""
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


def _ending(answer: StoredAnswer) -> tuple[str, dict[str, str]]:
    if answer.text is None:
        return "error", UNANSWERED
    return "done", {"text": answer.text}
