"""The way of a growing answer to the people who wait for it.

`AnswerStream` is the one place through which everything passes that is visible before the reply: notices
while the message waits, and the answer while the model writes it. Where the platform can change a message, it
is shown in one that is recorded in the store before it exists and before each change (`store.streams`), and
that the reply completes; elsewhere it is passed to what `Channel.answering` has returned.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable
from dataclasses import replace
from types import TracebackType
from typing import Self, TypeVar

from clawd_runtime.bot.buckets import Bucket, Urgency
from clawd_runtime.bot.channels.base import (
    AnswerProgress,
    Channel,
    DeliveryUnknown,
    NoProgress,
    PacedKind,
    RateLimited,
    RetryLater,
)
from clawd_runtime.bot.handling.pacing import Pacing
from clawd_runtime.bot.store.inbox import Task
from clawd_runtime.bot.store.store import Store
from clawd_runtime.bot.store.streams import StreamRecord
from clawd_runtime.bot.values import Piece, Shown
from clawd_runtime.errors import ChannelError, StoreError, StoreRefused

log = logging.getLogger(__name__)

# An answer that is complete by then is sent at once, as one message.
OPEN_AFTER = 1.0
PIECE_SECONDS = 10.0
RECORD_AGAIN_AFTER = 5.0

T = TypeVar("T")


class AnswerStream:
    """Shows the answer to one message while entered; after that, no piece is under way.

    Failures are logged and do not affect the answer.
    """

    def __init__(self, store: Store, channel: Channel, task: Task, pacing: Pacing) -> None:
        self._pacing = pacing
        self._store = store
        self._channel = channel
        self._task = task
        self._settings = channel.streaming(task.inbound)
        self._record = task.stream or StreamRecord("", 0, "", "opening")
        self._may_open = task.stream is None or bool(task.stream.ref) or bool(channel.idempotent_for)
        self._otherwise: AnswerProgress = NoProgress()
        self._opens_at = 0.0
        self.question = ""
        """The question as the model sees it; empty before it is asked."""
        self.answer = ""
        """The answer so far."""
        self._piece: Piece | None = None
        self._changed = asyncio.Event()
        self._showing: asyncio.Task[float | None] | None = None
        self._loop: asyncio.Task[None] | None = None

    @property
    def is_recorded(self) -> bool:
        """Return whether pieces are shown in a recorded message."""
        usable = self._record.state == "open" or (self._record.state == "opening" and self._may_open)
        return self._settings is not None and usable

    async def __aenter__(self) -> Self:
        """Start to show pieces."""
        if self.is_recorded:
            self._loop = asyncio.create_task(self._show_pieces())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Show no more pieces, and wait for one that is being shown: the reply must be the last change."""
        if self._loop is not None:
            self._loop.cancel()
        if self._showing is not None and not self._showing.done():
            await asyncio.wait((self._showing,), timeout=3 * PIECE_SECONDS)
            self._showing.cancel()

    def notify(self, text: str) -> None:
        """Show a notice of the bot in place of the answer."""
        self._put(Piece(text, is_notice=True))

    def answer_begins(self, question: str, otherwise: AnswerProgress) -> None:
        """Prepare for pieces of the answer, which `otherwise` shows if no recorded message does.

        `question` is what the model sees of it.
        """
        self.question = question
        self._otherwise = otherwise
        self._opens_at = asyncio.get_running_loop().time() + OPEN_AFTER

    def show(self, text: str) -> None:
        """See `AnswerProgress`."""
        self.answer = text
        is_open = self._record.state == "open"
        if self.is_recorded and (is_open or self._settings is None or not self._settings.notices_only):
            self._put(Piece(text))
        else:
            self._otherwise.show(text)

    def _put(self, piece: Piece) -> None:
        if piece != self._piece:
            self._piece = piece
            self._changed.set()

    async def _show_pieces(self) -> None:
        assert self._settings is not None
        while self.is_recorded:
            await self._changed.wait()
            assert self._piece is not None
            if self._record.state == "opening" and not self._piece.is_notice:
                await asyncio.sleep(self._opens_at - asyncio.get_running_loop().time())
            await self._pacing.turn(self._channel.name, self._buckets(), self._urgency)
            self._changed.clear()
            # Not cancelled with this task: a change that arrives after the reply would replace it.
            self._showing = asyncio.create_task(self._show(self._piece))
            pause = await asyncio.shield(self._showing)
            if pause is not None:
                self._changed.set()
            await asyncio.sleep(max(self._settings.every, pause or 0.0))

    async def _show(self, piece: Piece) -> float | None:
        """Show a piece; return the seconds until it may be tried again, None if it must not be."""
        try:
            await (self._update(piece) if self._record.state == "open" else self._open(piece))
        except RetryLater as delay:
            log.info("%s: %s", self._name, delay)
            if isinstance(delay, RateLimited):
                buckets = self._buckets(whole=delay.whole)
                await self._pacing.refused(self._channel.name, buckets, delay.after or 1.0)
            return delay.after or 0.0
        except (ChannelError, StoreError) as fault:
            log.info("%s: %s", self._name, fault)
        except Exception:
            log.exception("internal error: %s: showing the answer failed", self._name)
            self._record = replace(self._record, state="lost")
        return None

    async def _open(self, piece: Piece) -> None:
        channel, inbound = self._channel, self._task.inbound
        digest = _digest(piece)
        try:
            if not self._record.ref:
                ref = await _in_time(channel.prepare(inbound, piece))
                await self._put_record(StreamRecord(ref, self._record.sequence, digest, "opening"))
            shown = Shown(self._record.ref, self._record.sequence + 1)
            ref = await _in_time(channel.open(inbound, shown, piece))
        except RetryLater:
            raise
        except DeliveryUnknown:
            # It may be visible. Without an idempotency key, opening it again could show it twice.
            if not channel.idempotent_for:
                await self._put_record(replace(self._record, state="lost"))
            raise
        except ChannelError:
            await self._put_record(replace(self._record, state="lost"))
            raise
        await self._put_record(
            StreamRecord(ref, self._record.sequence + 1, digest, "open"), until_stored=True
        )

    async def _update(self, piece: Piece) -> None:
        digest = _digest(piece)
        if digest != self._record.digest:
            number = self._record.sequence + 1
            await self._put_record(replace(self._record, sequence=number, digest=digest))
            await _in_time(self._channel.update(self._task.inbound, Shown(self._record.ref, number), piece))

    async def _put_record(self, record: StreamRecord, *, until_stored: bool = False) -> None:
        """Store the record; if the message belongs to another bot by now, show nothing any more."""
        while True:
            try:
                held = await self._store.record_stream(self._task, record)
            except StoreError as fault:
                if not until_stored or isinstance(fault, StoreRefused):
                    raise
                log.error("%s; retrying in %g s", fault, RECORD_AGAIN_AFTER)
                await asyncio.sleep(RECORD_AGAIN_AFTER)
            else:
                break
        self._record = record if held else replace(record, state="lost")
        if not held:
            raise ChannelError("the message belongs to another bot now")

    def _buckets(self, *, whole: bool = False) -> tuple[Bucket, ...]:
        inbound = self._task.inbound
        call: PacedKind = "change" if self._record.state == "open" else "message"
        found = self._channel.pace(inbound.conversation, inbound.chat_kind, call)
        return tuple(bucket for bucket in found if not (whole and bucket.of_chat))

    @property
    def _urgency(self) -> Urgency:
        return Urgency.NOTICE if self._piece is not None and self._piece.is_notice else Urgency.PIECE

    @property
    def _name(self) -> str:
        return f"{self._channel.name} message {self._task.seq}"


async def _in_time(call: Awaitable[T]) -> T:
    """Return the result of a call of a channel; raise `DeliveryUnknown` if it takes too long."""
    try:
        async with asyncio.timeout(PIECE_SECONDS):
            return await call
    except TimeoutError:
        raise DeliveryUnknown("no response in time") from None


def _digest(piece: Piece) -> str:
    return hashlib.sha256(piece.text.encode("utf-8", "replace")).hexdigest()[:16]
