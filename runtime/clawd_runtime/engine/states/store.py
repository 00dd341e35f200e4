"""The states of conversations that have no slot: those used last in memory, more of them in files.

Used by the batcher's thread only. A state is written some time after it was saved, or earlier when memory
runs short, since the next turn of its conversation replaces it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path

from clawd_runtime.engine.metrics import EngineMetrics
from clawd_runtime.engine.states.files import FoundFile, StateFiles, StateHeader
from clawd_runtime.engine.states.prefixes import PrefixIndex, Tokens, count_shared
from clawd_runtime.engine.states.room import StateBuffer, allocate
from clawd_runtime.engine.states.values import SavedState, StateBudget, StateMatch, preference

_log = logging.getLogger("clawd.engine")

WORTHWHILE = 32
"""Tokens that are not worth reading a file: computing them takes about a step."""
WRITE_AFTER_S = 10.0
"""Seconds for which a state waits for its conversation to continue before it is written."""
_SHARED_PART = 4
"""Beginnings shared by conversations are kept before all others, in up to one part of this many."""
_CONSIDERED = 64
"""Candidates that are compared if that many share equally much with a prompt."""
_EXPIRE_EVERY_S = 600.0


class StateStore:
    """States of one model within a budget. Without `files`, they end with the process."""

    def __init__(self, budget: StateBudget, metrics: EngineMetrics, files: StateFiles | None = None) -> None:
        self._budget, self._metrics = budget, metrics
        self._files: StateFiles | None = None
        self._index: PrefixIndex[SavedState] = PrefixIndex()
        self._states: set[SavedState] = set()
        self._unwritten: set[SavedState] = set()
        self._by_conversation: dict[str, set[SavedState]] = {}
        self._foreign: list[FoundFile] = []
        self._in_memory = 0
        self._in_files = 0
        self._expired = time.monotonic()
        self._opening = files if budget.disk else None

    def open(self, notify: Callable[[], None]) -> None:
        """Start to find the states in files; `notify` is called from a thread when `work` has news."""
        if (files := self._opening) is not None:
            files.open(lambda found: self._opened(files, found), notify)

    @property
    def enabled(self) -> bool:
        """Return whether any state can be kept."""
        return self._budget.memory > 0

    @property
    def resting(self) -> bool:
        """Return whether there is nothing to do in the background soon."""
        return self._files is None or not self._unwritten

    # --- finding ------------------------------------------------------------------------------------

    def best(self, prompt: Tokens, *, whole: bool = False) -> StateMatch | None:
        """Return the state in memory that shares most with `prompt`; only `whole` ones if not divisible."""
        return self._best(prompt, whole, lambda state: state.data is not None)

    def in_file(self, prompt: Tokens, more_than: int, *, whole: bool = False) -> SavedState | None:
        """Return the best state for `prompt` if it is only in a file, and worth being read.

        That is, it shares at least `WORTHWHILE` tokens more than those in memory, and than `more_than`.
        """
        best = self._best(prompt, whole, lambda state: True)
        if best is None or best.state.data is not None or self._files is None:
            return None
        near = self.best(prompt, whole=whole)
        most = max(more_than, near.count if near is not None else 0)
        return best.state if best.count >= most + WORTHWHILE else None

    def fetch(self, state: SavedState) -> bool:
        """Start to read a state as soon as there is room; return whether it will be in memory later."""
        if state.dropped or state.data is not None or self._files is None:
            return False
        if state.reading:
            return True
        if state.path is None:
            return False
        if self._make_room(state.size):
            self._in_memory += state.size
            state.reading = True
            self._files.read(state.path, state.tokens, lambda data: self._have_read(state, data))
        return True

    def has(self, tokens: Tokens) -> bool:
        """Return whether there is a state of exactly these tokens, in memory or in a file."""
        return self._index.get(tokens) is not None

    def branches(self, prefix: Tokens) -> int:
        """Return in how many ways states continue after exactly this prefix."""
        return self._index.branches(prefix)

    def _best(self, prompt: Tokens, whole: bool, accept: Callable[[SavedState], bool]) -> StateMatch | None:
        best: StateMatch | None = None
        for count, state in islice(self._index.matches(prompt), _CONSIDERED):
            if best is not None and count < best.count:
                break
            if not accept(state) or (whole and count < state.count):
                continue
            if best is None or preference(state) < preference(best.state):
                best = StateMatch(state, count)
        return best

    # --- adding and using ---------------------------------------------------------------------------

    def room_for(self, size: int) -> StateBuffer | None:
        """Return memory for a state to save, counted until `add` or `give_back`; `None` without room."""
        if not self._make_room(size):
            return None
        try:
            data = allocate(size)
        except OSError:
            return None
        self._in_memory += size
        return data

    def give_back(self, size: int) -> None:
        """Do without the memory of `room_for`."""
        self._in_memory -= size

    def add(
        self, tokens: Tokens, size: int, data: StateBuffer, *, conversation: str, shared: bool = False
    ) -> None:
        """Keep the state that was written into `data`; the earlier one of the conversation goes."""
        if (same := self._index.get(tokens)) is not None:
            same.used, same.shared = time.time(), same.shared or shared
            if same.data is None and not same.reading:
                same.data = data
            else:
                self.give_back(size)
            return
        if not shared:
            for earlier in self._continued_by(tokens, conversation):
                self._drop(earlier)
        state = SavedState(tokens, size, conversation, shared, time.time(), data)
        self._insert(state)
        self._unwritten.add(state)
        self._count()

    def _continued_by(self, tokens: Tokens, conversation: str) -> list[SavedState]:
        """Return the states that are not needed any more when there is one of these tokens.

        A named conversation may have changed a little: an answer can become other tokens when it is read.
        """
        if conversation:
            own = self._by_conversation.get(conversation, ())
            return [state for state in own if 2 * count_shared(state.tokens, tokens) >= state.count]
        return [
            state
            for count, state in islice(self._index.matches(tokens), _CONSIDERED)
            if count == state.count and not state.shared and not state.conversation
        ]

    def _insert(self, state: SavedState) -> None:
        self._index.add(state.tokens, state)
        self._states.add(state)
        if state.conversation:
            self._by_conversation.setdefault(state.conversation, set()).add(state)

    def used(self, state: SavedState) -> None:
        """Note that a state was used."""
        state.used = time.time()
        if self._files is not None and state.path is not None:
            self._files.touch(state.path, state.used)

    def refuse(self, state: SavedState) -> None:
        """Drop a state that llama.cpp does not accept."""
        self._metrics.state_failures.inc()
        self._drop(state)
        self._count()

    # --- in the background --------------------------------------------------------------------------

    def work(self) -> None:
        """Take the results of reads and writes, write what is due, drop what is too old."""
        if self._opening is not None:
            self._opening.collect()
        if self._files is not None:
            self._write_due(time.time())
        if time.monotonic() - self._expired > _EXPIRE_EVERY_S:
            self._expire()

    def close(self, seconds: float) -> None:
        """Write the states that are not in files yet, those used last first, for at most this time."""
        if self._files is not None:
            for state in sorted(self._unwritten, key=lambda state: -state.used):
                self._write(state)
        if self._opening is not None:
            self._opening.close(seconds)
            self._opening.collect()
        kept = sum(state.path is not None for state in self._states)
        if self._files is not None:
            _log.info("states of %d of %d conversations are in files", kept, len(self._states))
        self._states.clear()

    def _opened(self, files: StateFiles, found: list[FoundFile] | None) -> None:
        if found is None:
            return
        self._files = files
        for file in sorted(found, key=lambda file: -file.used):
            if file.start is None:
                self._in_files += file.size
                self._foreign.append(file)
                continue
            header, tokens = file.start.header, file.start.tokens
            state = SavedState(tokens, header.size, header.conversation, header.shared, file.used)
            if (same := self._index.get(tokens)) is not None and same.path is not None:
                files.delete(file.path)  # a newer one has been found
                continue
            self._in_files += header.size
            if same is not None:
                same.path = file.path
                self._unwritten.discard(same)
                continue
            state.path = file.path
            self._insert(state)
        self._expire()
        self._make_disk_room(0)
        self._count()

    def _have_read(self, state: SavedState, data: StateBuffer | None) -> None:
        state.reading = False
        if data is None or state.dropped:
            self._in_memory -= state.size
        else:
            state.data, state.used = data, time.time()
        if data is None and not state.dropped:
            self._metrics.state_failures.inc()
            self._drop(state)
        self._count()

    def _write_due(self, now: float) -> None:
        """Write states that are old enough, and so many that half of the memory can be freed at once."""
        if not self._unwritten:
            return
        dirty = sorted(self._unwritten, key=lambda state: state.used)
        unwritten = sum(state.size for state in dirty)
        for state in dirty:
            if now - state.used < WRITE_AFTER_S and 2 * unwritten < self._budget.memory:
                return
            self._write(state)
            unwritten -= state.size

    def _write(self, state: SavedState) -> None:
        files = self._files
        self._unwritten.discard(state)
        if files is None or state.data is None or not self._make_disk_room(state.size):
            return
        self._in_files += state.size
        state.writing = True
        header = StateHeader(state.size, state.conversation, state.shared)
        files.write(state.tokens, header, state.data, lambda path: self._have_written(state, path))

    def _have_written(self, state: SavedState, path: Path | None) -> None:
        state.writing = False
        if path is None:
            self._in_files -= state.size
        state.path = path
        if state.dropped:
            self._free(state)
            self._delete(state)
        self._count()

    def _expire(self) -> None:
        self._expired = time.monotonic()
        oldest = time.time() - self._budget.age
        for state in [state for state in self._states if state.used < oldest]:
            self._drop(state)
        for file in [file for file in self._foreign if file.used < oldest]:
            self._drop_foreign(file)
        self._count()

    # --- room ---------------------------------------------------------------------------------------

    def _make_room(self, size: int) -> bool:
        """Drop states from memory, those unused for longest first, until `size` bytes fit."""
        budget = self._budget.memory
        if size > budget:
            return False
        if self._in_memory + size <= budget:
            return True
        for state in self._leaving(state for state in self._states if state.data is not None):
            if state.writing or state.wanted:
                continue
            self._free(state)
            self._metrics.state_evictions.labels("memory").inc()
            if state.path is None:
                self._drop(state)
            if self._in_memory + size <= budget:
                break
        self._count()
        return self._in_memory + size <= budget

    def _make_disk_room(self, size: int) -> bool:
        """Delete files, those unused for longest first, until `size` bytes more are within the budget."""
        budget = self._budget.disk
        if size > budget:
            return False
        if self._in_files + size <= budget:
            return True
        own = self._leaving(state for state in self._states if state.path is not None and not state.reading)
        foreign = sorted(self._foreign, key=lambda file: -file.used)
        for state in own:
            while foreign and foreign[-1].used <= state.used and self._in_files + size > budget:
                self._drop_foreign(foreign.pop())
            if self._in_files + size <= budget:
                break
            self._delete(state)
            self._metrics.state_evictions.labels("disk").inc()
            if state.data is None:
                self._drop(state)
        while foreign and self._in_files + size > budget:
            self._drop_foreign(foreign.pop())
        return self._in_files + size <= budget

    def _leaving(self, states: Iterable[SavedState]) -> list[SavedState]:
        """Return states in the order in which they are given up: shared ones last, within their part."""
        ordered = sorted(states, key=lambda state: state.used)
        shared = [state for state in ordered if state.shared]
        most, kept = self._budget.memory // _SHARED_PART, 0
        pinned = set()
        for state in reversed(shared):
            kept += state.size
            if kept <= most:
                pinned.add(state)
        return [state for state in ordered if state not in pinned] + [
            state for state in shared if state in pinned
        ]

    def _drop(self, state: SavedState) -> None:
        """Remove a state from the index, and its data as soon as nothing reads or writes them."""
        if state.dropped:
            return
        state.dropped = True
        self._index.remove(state.tokens)
        self._states.discard(state)
        self._unwritten.discard(state)
        if state.conversation:
            own = self._by_conversation[state.conversation]
            own.discard(state)
            if not own:
                del self._by_conversation[state.conversation]
        if not state.writing:
            self._free(state)
            self._delete(state)

    def _free(self, state: SavedState) -> None:
        if state.data is not None:
            state.data = None
            self._in_memory -= state.size

    def _delete(self, state: SavedState) -> None:
        if state.path is not None and self._files is not None:
            self._files.delete(state.path)
            state.path = None
            self._in_files -= state.size

    def _drop_foreign(self, file: FoundFile) -> None:
        self._foreign.remove(file)
        self._in_files -= file.size
        if self._files is not None:
            self._files.delete(file.path)

    def _count(self) -> None:
        self._metrics.states.labels("memory").set(sum(state.data is not None for state in self._states))
        self._metrics.states.labels("disk").set(sum(state.path is not None for state in self._states))
        self._metrics.state_bytes.labels("memory").set(self._in_memory)
        self._metrics.state_bytes.labels("disk").set(self._in_files)
