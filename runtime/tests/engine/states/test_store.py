"""The store with real files, and states whose bytes are known."""

from __future__ import annotations

import os
import stat
import threading
import time
from pathlib import Path

import pytest

from clawd_runtime.engine.metrics import EngineMetrics
from clawd_runtime.engine.states import files as files_module
from clawd_runtime.engine.states import store as store_module
from clawd_runtime.engine.states.files import StateFiles, StateOrigin
from clawd_runtime.engine.states.prefixes import as_tokens
from clawd_runtime.engine.states.store import StateStore
from clawd_runtime.engine.states.values import StateBudget

SIZE = 1000
WAIT = 10


class Opened:
    """A store in `folder`; results of its threads are awaited."""

    def __init__(self, folder: Path, *, memory=10, disk=100, model=b"m", **budget) -> None:
        path = folder.parent / "model.gguf"
        path.write_bytes(model)
        self.folder, self.news = folder, threading.Event()
        self.metrics = EngineMetrics()
        files = StateFiles(folder, StateOrigin(path, {"keys": 1}))
        self.store = StateStore(StateBudget(memory * SIZE, disk * SIZE, **budget), self.metrics, files)
        self.store.open(self.news.set)
        self.until(lambda: self.store._files is not None)

    def until(self, done) -> None:
        latest = time.monotonic() + WAIT
        while not done():
            assert time.monotonic() < latest, "nothing happened"
            self.news.wait(0.05)
            self.news.clear()
            self.store.work()

    def save(self, tokens, conversation: str = "", *, shared: bool = False) -> None:
        data = self.store.room_for(SIZE)
        assert data is not None
        data[:SIZE] = content(tokens)
        self.store.add(as_tokens(tokens), SIZE, data, conversation=conversation, shared=shared)

    def written(self) -> None:
        self.until(lambda: not any(state.data and not state.path for state in self.store._states))

    def get(self, prompt):
        """Return the state that shares most with `prompt`, read from its file if necessary."""
        state = self.store.in_file(as_tokens(prompt), 0)
        if state is not None:
            self.until(lambda: not self.store.fetch(state))
        match = self.store.best(as_tokens(prompt))
        if match is None:
            return None
        assert match.state.data is not None
        return match.count, match.state.data[:SIZE]

    def value(self, name: str, **labels) -> float:
        return self.metrics._registry.get_sample_value(f"clawd_engine_{name}", labels) or 0.0

    def files(self) -> list[Path]:
        return sorted(self.folder.glob("*/*.state"))


def content(tokens) -> bytes:
    return (bytes(token % 256 for token in tokens) * SIZE)[:SIZE]


@pytest.fixture
def opened(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "WRITE_AFTER_S", 0.0)
    monkeypatch.setattr(store_module, "WORTHWHILE", 1)
    made = []

    def start(**options) -> Opened:
        store = Opened(tmp_path / "states", **options)
        made.append(store)
        return store

    yield start
    for each in made:
        each.store.close(WAIT)


def test_state_that_shares_most_is_found(opened):
    store = opened()
    store.save([1, 2, 3])
    store.save([1, 2, 9, 9])
    assert store.get([1, 2, 3, 4]) == (3, content([1, 2, 3]))
    assert store.get([1, 2, 9]) == (3, content([1, 2, 9, 9]))
    assert store.get([5]) is None


def test_states_used_longest_ago_leave_memory_and_are_read_back(opened):
    store = opened(memory=4)
    for number in range(10):
        store.save([number, 1, 2])
        store.written()
    assert store.value("states", where="memory") <= 4
    assert store.value("states", where="disk") == 10
    assert store.value("state_bytes", where="memory") <= 4 * SIZE
    for number in range(10):
        assert store.get([number, 1, 2]) == (3, content([number, 1, 2]))
    assert store.value("state_bytes", where="memory") <= 4 * SIZE


def test_files_stay_within_their_budget(opened):
    store = opened(memory=4, disk=6)
    for number in range(12):
        store.save([number, 1, 2])
        store.written()
    assert len(store.store._states) == 6
    assert store.get([0, 1, 2]) is None
    assert store.get([11, 1, 2]) is not None
    assert store.value("state_evictions_total", where="disk") == 6


def test_shared_beginning_stays_when_others_go(opened):
    store = opened(memory=4, disk=6)
    store.save([7, 7], shared=True)
    for number in range(12):
        store.save([7, 7, number, 1], f"{number:064x}")
        store.written()
    match = store.store.best(as_tokens([7, 7, 99]))
    assert match is not None
    assert match.state.shared
    assert store.value("state_bytes", where="memory") <= 4 * SIZE


def test_wanted_state_stays_in_memory(opened):
    store = opened(memory=2)
    store.save([1, 1])
    match = store.store.best(as_tokens([1, 1]))
    match.state.wanted += 1
    for number in range(5, 10):
        store.save([number, 1])
        store.written()
    assert match.state.data is not None


def test_state_larger_than_the_budget_is_not_kept(opened):
    store = opened(memory=4)
    assert store.store.room_for(5 * SIZE) is None
    store.save([1, 2])
    assert store.get([1, 2]) is not None


def test_next_turn_replaces_state_of_its_conversation(opened):
    store = opened()
    one, other = "1" * 64, "2" * 64
    store.save([1, 2, 3, 4], one)
    store.save([1, 2, 3, 4, 5], other)
    store.written()
    store.save([1, 2, 3, 9, 9], one)
    store.written()
    assert store.value("states", where="memory") == 2
    assert store.get([1, 2, 3, 4, 6])[0] == 4
    store.until(lambda: len(store.files()) == 2)


def test_turn_without_name_replaces_only_what_it_continues(opened):
    store = opened()
    store.save([1, 2, 3])
    store.save([1, 2, 9])
    store.save([1, 2, 3, 4])
    assert store.value("states", where="memory") == 2


def test_states_survive_a_restart(opened):
    store = opened()
    store.save([1, 2, 3], "1" * 64)
    store.save([1, 2], shared=True)
    store.store.close(WAIT)
    again = opened()
    assert again.value("states", where="memory") == 0
    assert again.get([1, 2, 3, 4]) == (3, content([1, 2, 3]))
    assert again.get([1, 2, 8])[0] == 2
    assert {state.shared for state in again.store._states} == {True, False}


def test_private_files_in_private_folder(opened):
    store = opened()
    store.save([1, 2, 3])
    store.written()
    (file,) = store.files()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700


def test_damaged_file_is_named_removed_and_not_loaded(opened, caplog):
    store = opened()
    store.save([1, 2, 3])
    store.store.close(WAIT)
    (file,) = store.files()
    damaged = bytearray(file.read_bytes())
    damaged[-1] ^= 1
    file.write_bytes(damaged)
    again = opened()
    assert again.get([1, 2, 3]) is None
    assert str(file) in caplog.text
    assert not file.exists()
    assert again.value("state_failures_total") == 1
    assert again.value("state_bytes", where="memory") == 0
    assert again.value("state_bytes", where="disk") == 0


def test_foreign_file_is_named_and_removed(opened, caplog):
    store = opened()
    store.save([1, 2, 3])
    store.store.close(WAIT)
    (file,) = store.files()
    other = opened(model=b"another")
    strange = next(folder for folder in other.folder.iterdir() if folder.is_dir() and folder != file.parent)
    strange.joinpath(file.name).write_bytes(file.read_bytes())
    strange.joinpath("left.part").write_bytes(b"")
    other.store.close(WAIT)
    again = opened(model=b"another")
    assert again.get([1, 2, 3]) is None
    assert f"{strange / file.name}: it belongs to another model" in caplog.text
    assert list(strange.iterdir()) == []


def test_states_of_another_model_stay_and_are_found_after_switching_back(opened):
    store = opened()
    store.save([1, 2, 3])
    store.store.close(WAIT)
    other = opened(model=b"another")
    assert other.get([1, 2, 3]) is None
    assert other.value("state_bytes", where="disk") > 0
    other.store.close(WAIT)
    again = opened()
    assert again.get([1, 2, 3]) == (3, content([1, 2, 3]))


def test_states_of_other_models_make_room(opened):
    store = opened()
    for number in range(5):
        store.save([number, 2, 3])
    store.store.close(WAIT)
    for file in store.files():
        os.utime(file, (time.time() - 100, time.time() - 100))
    other = opened(model=b"another", disk=6)
    for number in range(6):
        other.save([number, 2, 3])
        other.written()
    assert len(other.store._states) == 6
    other.until(lambda: len(other.files()) == 6)


def test_old_states_are_deleted(opened):
    store = opened()
    store.save([1, 2, 3])
    store.save([2, 2, 3])
    store.store.close(WAIT)
    one = store.files()[0]
    os.utime(one, (time.time() - 100, time.time() - 100))
    again = opened(age=50.0)
    again.until(lambda: not one.exists())
    assert len(again.store._states) == 1


def test_full_disk_is_reported_once_and_memory_is_used(opened, caplog, monkeypatch):
    store = opened()
    monkeypatch.setattr(files_module, "LEAST_FREE", 1 << 60)
    for number in range(3):
        store.save([number, 1, 2])
    states = store.store._states
    store.until(lambda: store.store.resting and not any(state.writing for state in states))
    assert caplog.text.count(f"cannot save states of conversations in {store.folder}") == 1
    assert store.files() == []
    assert store.get([1, 1, 2]) is not None
    assert store.value("state_bytes", where="disk") == 0
    monkeypatch.setattr(files_module, "LEAST_FREE", 0)
    store.save([9, 1, 2])
    store.until(lambda: len(store.files()) == 1)


def test_unusable_folder_is_reported_and_memory_is_used(tmp_path, caplog):
    blocked = tmp_path / "file"
    blocked.write_text("")
    (tmp_path / "model").write_bytes(b"m")
    news = threading.Event()
    store = StateStore(
        StateBudget(SIZE, SIZE),
        EngineMetrics(),
        StateFiles(blocked / "states", StateOrigin(tmp_path / "model", {})),
    )
    store.open(news.set)
    assert news.wait(WAIT)
    store.work()
    assert f"cannot keep states of conversations in {blocked / 'states'}" in caplog.text
    data = store.room_for(SIZE)
    assert data is not None
    store.add(as_tokens([1, 2]), SIZE, data, conversation="")
    assert store.best(as_tokens([1, 2])) is not None
    store.close(WAIT)
