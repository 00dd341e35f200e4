"""What the slots hold, where it comes from, and where it goes when another conversation needs the slot.

Used by the batcher's thread only, between steps. While a state is saved or restored, all answers wait; the
time for each byte is measured, and a state that would take too long is not touched while others write.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from clawd_runtime.engine.batching.computer import Computer
from clawd_runtime.engine.batching.sequence import Ticket
from clawd_runtime.engine.batching.slots import (
    SHORTEST_COPY,
    Held,
    Placement,
    common_prefix,
    place,
    unused_for_longest,
)
from clawd_runtime.engine.metrics import EngineMetrics
from clawd_runtime.engine.states.prefixes import as_tokens
from clawd_runtime.engine.states.store import StateStore
from clawd_runtime.engine.states.values import SavedState, StateMatch

_log = logging.getLogger("clawd.engine")

LONGEST_STALL_S = 0.25
"""Seconds for which a state may keep answers waiting that are being written."""
LONGEST_READ_S = 3.0
"""Seconds for which a prompt waits for its state to be read from a file."""
_SAVE_AFTER_S, _SAVE_BUSY_AFTER_S = 2.0, 30.0
"""Seconds after which an unused slot is saved: while nothing is computed, and while answers are."""
_SAVING_PART = 20
"""Saving in the background takes at most one part of this many of the time."""
_FIRST_PACE = 2e-9
"""Seconds for each byte of a state while nothing has been measured."""
_WEIGHT = 0.3


@dataclass(slots=True)
class _Slot:
    """The tokens of one slot, how many of them a saved state has, and whose they are.

    `used` is the order of use, `last` its time (monotonic seconds).
    """

    tokens: list[int]
    saved: int = 0
    conversation: str = ""
    used: int = 0
    last: float = 0.0

    @property
    def unsaved(self) -> bool:
        """Return whether saving it is worthwhile."""
        return len(self.tokens) >= self.saved + SHORTEST_COPY


@dataclass(frozen=True, slots=True)
class SlotSource:
    """The slot `seq` for a prompt, and where the first `keep` tokens come from.

    They are there already, or come from the saved `state`, or from the slot `donor`.
    """

    seq: int
    keep: int
    state: SavedState | None = None
    donor: int | None = None


class SlotContents:
    """The contents of the slots of `computer`, and their saved states in `store`."""

    def __init__(self, computer: Computer, store: StateStore, metrics: EngineMetrics) -> None:
        self._computer, self._store, self._metrics = computer, store, metrics
        self._slots = [_Slot([]) for _ in range(computer.parallel)]
        self._clock = 0
        self._pace = {"save": _FIRST_PACE, "restore": _FIRST_PACE}
        self._next_save = 0.0
        self._broken = False

    def held(self, busy: Collection[int]) -> list[Held]:
        """Return the state of all slots."""
        return [Held(seq, slot.tokens, seq in busy, slot.used) for seq, slot in enumerate(self._slots)]

    def count(self, seq: int) -> int:
        """Return the number of tokens in a slot."""
        return len(self._slots[seq].tokens)

    def total(self) -> int:
        """Return the number of tokens in all slots."""
        return sum(len(slot.tokens) for slot in self._slots)

    def extend(self, seq: int, tokens: Sequence[int]) -> None:
        """Note that these tokens were computed."""
        self._slots[seq].tokens.extend(tokens)

    def empty(self, seq: int) -> None:
        """Note that the content of a slot is unknown."""
        self._slots[seq] = _Slot([], used=self._slots[seq].used)

    def leave(self, seq: int) -> None:
        """Note that an answer has ended; its tokens stay for the next turn of the conversation."""
        self._clock += 1
        self._slots[seq].used, self._slots[seq].last = self._clock, time.monotonic()

    # --- choosing -----------------------------------------------------------------------------------

    def awaits(self, ticket: Ticket, *, free: bool = True) -> bool:
        """Return whether `ticket` should wait for a state that is read from a file; start to read it.

        A slot is `free`: it does not wait forever.
        """
        if not ticket.looked:
            ticket.looked = True
            ticket.awaited = self._in_file(ticket)
            if ticket.awaited is not None:
                ticket.awaited.wanted += 1
        if ticket.awaited is None or not self._store.fetch(ticket.awaited):
            return False
        if free and ticket.awaited_until is None:
            ticket.awaited_until = time.monotonic() + LONGEST_READ_S
        return ticket.awaited_until is None or time.monotonic() < ticket.awaited_until

    def _in_file(self, ticket: Ticket) -> SavedState | None:
        if not self._store.enabled:
            return None
        here = max(common_prefix(slot.tokens, ticket.job.prompt) for slot in self._slots)
        return self._store.in_file(ticket.prefix, here, whole=not self._computer.divisible)

    def let_go(self, ticket: Ticket) -> None:
        """Note that `ticket` does not need the state any more that it waited for."""
        if ticket.awaited is not None:
            ticket.awaited.wanted -= 1
            ticket.awaited = None

    def choose(self, slots: Sequence[Held], ticket: Ticket, *, others: bool) -> SlotSource | None:
        """Return the slot for `ticket` with the fewest tokens to compute, `None` if all are busy.

        `others` are waiting for the next step.
        """
        placement = place(slots, ticket.job.prompt)
        if placement is None:
            return None
        match = self._store.best(ticket.prefix, whole=not self._computer.divisible)
        if match is not None and self._better(match, placement, others=others):
            unused = unused_for_longest(slots)
            assert unused is not None, "a slot is free, but none was found"
            return SlotSource(unused.seq, match.count, state=match.state)
        if placement.donor is not None and not self._affordable(placement.donor, others=others):
            return SlotSource(placement.seq, 0)
        return SlotSource(placement.seq, placement.keep, donor=placement.donor)

    def _better(self, match: StateMatch, placement: Placement, *, others: bool) -> bool:
        """Return whether a saved state saves more than the slots do; a slot's copy costs twice as much."""
        if not self._fast("restore", match.state.size, others=others):
            return False
        least = placement.keep if placement.donor is not None else placement.keep + SHORTEST_COPY
        return match.count >= max(least, SHORTEST_COPY)

    # --- filling ------------------------------------------------------------------------------------

    def fill(self, source: SlotSource, ticket: Ticket, *, others: bool) -> int:
        """Make the slot hold the reusable beginning of the prompt; return its length in tokens."""
        slot, prompt, conversation = self._slots[source.seq], ticket.job.prompt, ticket.job.conversation
        in_place = source.state is None and source.donor is None
        if source.state is not None:
            source.state.wanted += 1
        try:
            if slot.unsaved and self._loses(slot, source.keep if in_place else 0, conversation):
                self._save(source.seq, others=others)
            whole, owner = len(slot.tokens), slot.conversation
            if source.state is not None:
                whole, owner = source.state.count, source.state.conversation
                kept = self._restore(source.seq, source.state, source.keep, ticket)
            elif source.donor is not None:
                donor = self._slots[source.donor]
                whole, owner = len(donor.tokens), donor.conversation
                kept = self._copy(source.donor, source.seq, source.keep)
            else:
                kept = self._computer.keep(source.seq, source.keep)
        finally:
            if source.state is not None:
                source.state.wanted -= 1
        saved = kept if source.state is not None else min(slot.saved, kept) if in_place else 0
        self._slots[source.seq] = _Slot(list(prompt[:kept]), saved, conversation, slot.used, slot.last)
        if not kept and not source.keep:
            self._metrics.state_misses.inc()
        if SHORTEST_COPY <= kept < whole and self._is_shared(source.seq, owner, conversation):
            self._save(source.seq, others=others, shared=True)
        return kept

    def _loses(self, slot: _Slot, kept: int, conversation: str) -> bool:
        """Return whether tokens are lost that are needed again: not those of a continued conversation."""
        if kept and conversation and slot.conversation == conversation:
            return False
        return len(slot.tokens) - kept >= SHORTEST_COPY

    def _restore(self, seq: int, state: SavedState, count: int, ticket: Ticket) -> int:
        if state.data is None:
            return self._computer.keep(seq, 0)
        started = time.monotonic()
        if not self._computer.restore(seq, state.data, state.size):
            self._store.refuse(state)
            return 0
        kept = self._computer.keep(seq, count)
        self._observe("restore", state.size, time.monotonic() - started)
        self._store.used(state)
        if kept:
            self._metrics.state_restores.labels("disk" if ticket.awaited is state else "memory").inc()
            self._metrics.state_tokens.inc(kept)
        return kept

    def _copy(self, donor: int, target: int, count: int) -> int:
        """Copy through memory of the store, or without any if it has none."""
        size = self._computer.state_size(donor)
        data = self._store.room_for(size)
        if data is None:
            return self._computer.copy(donor, target, count)
        started = time.monotonic()
        try:
            saved = self._computer.save(donor, data) and self._computer.restore(target, data, size)
        finally:
            self._store.give_back(size)
        kept = self._computer.keep(target, count if saved else 0)
        self._metrics.state_seconds.labels("copy").observe(time.monotonic() - started)
        return kept

    def _is_shared(self, seq: int, owner: str, conversation: str) -> bool:
        """Return whether a slot holds the beginning of several conversations, and it is not kept yet."""
        tokens = as_tokens(self._slots[seq].tokens)
        if self._store.has(tokens):
            return False
        return owner != conversation or (not owner and self._store.branches(tokens) > 1)

    # --- saving -------------------------------------------------------------------------------------

    def open(self, notify: Callable[[], None]) -> None:
        """Start to find saved states; `notify` is called from a thread when `work` has news."""
        self._store.open(notify)

    def work(self, busy: Collection[int]) -> None:
        """Do what is due in the background; if it fails, answers are computed without it."""
        if self._broken:
            return
        try:
            self._store.work()
            self._save_unused(busy)
        except Exception:
            self._broken = True
            _log.exception("internal error: states of conversations are not saved any more")

    def _save_unused(self, busy: Collection[int]) -> None:
        """Save a slot that was not used for a while, if that is due."""
        now = time.monotonic()
        if now < self._next_save or not self._store.enabled:
            return
        after = _SAVE_BUSY_AFTER_S if busy else _SAVE_AFTER_S
        due = [
            (slot.used, seq)
            for seq, slot in enumerate(self._slots)
            if seq not in busy and slot.unsaved and now - slot.last > after
        ]
        if due:
            self._save(min(due)[1], others=bool(busy))
            self._next_save = now + _SAVING_PART * (time.monotonic() - now)

    @property
    def resting(self) -> bool:
        """Whether there is nothing to save soon while nothing is computed."""
        unsaved = self._store.enabled and any(slot.unsaved for slot in self._slots)
        return self._broken or (self._store.resting and not unsaved)

    def close(self, seconds: float) -> None:
        """Save the slots, those used last first, and close the store; take at most this time."""
        until = time.monotonic() + seconds
        try:
            for seq in sorted(range(len(self._slots)), key=lambda seq: -self._slots[seq].used):
                if self._store.enabled and self._slots[seq].unsaved and time.monotonic() < until:
                    self._save(seq, others=False)
        except Exception:
            _log.exception("internal error: states of conversations are not saved")
        self._store.close(max(0.0, until - time.monotonic()))

    def _save(self, seq: int, *, others: bool, shared: bool = False) -> None:
        """Save a slot if there is room and time; it is not tried again."""
        slot = self._slots[seq]
        if not self._affordable(seq, others=others):
            return
        slot.saved = len(slot.tokens)
        size = self._computer.state_size(seq)
        started = time.monotonic()
        data = self._store.room_for(size) if size else None
        if data is None:
            return
        if not self._computer.save(seq, data):
            self._store.give_back(size)
            return
        self._observe("save", size, time.monotonic() - started)
        conversation = "" if shared else slot.conversation
        self._store.add(as_tokens(slot.tokens), size, data, conversation=conversation, shared=shared)

    def _affordable(self, seq: int, *, others: bool) -> bool:
        return not others or self._fast("save", self._computer.state_size(seq), others=others)

    def _fast(self, operation: str, size: int, *, others: bool) -> bool:
        return not others or self._pace[operation] * size <= LONGEST_STALL_S

    def _observe(self, operation: str, size: int, seconds: float) -> None:
        self._metrics.state_seconds.labels(operation).observe(seconds)
        self._pace[operation] += _WEIGHT * (seconds / size - self._pace[operation])
