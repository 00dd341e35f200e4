"""Conversations that lose their slot, with a model whose answers are known."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from clawd_runtime.engine.batching import contents as contents_module
from clawd_runtime.engine.batching.batcher import Batcher
from clawd_runtime.engine.jobs import conversation_digest
from clawd_runtime.engine.metrics import EngineMetrics
from clawd_runtime.engine.states import store as store_module
from clawd_runtime.engine.states.files import StateFiles, StateOrigin
from clawd_runtime.engine.states.store import StateStore
from clawd_runtime.engine.states.values import StateBudget
from clawd_runtime.engine.values import AnswerJob, Delta, Finished
from tests.engine.conftest import BYTES_PER_TOKEN

WAIT = 10
SYSTEM = list(range(100, 160))


class Running:
    """A batcher with a store for this many tokens in memory, and files in `folder`."""

    def __init__(self, model, tokens: int, folder: Path | None = None) -> None:
        self.model, self.metrics = model, EngineMetrics()
        files = None
        if folder is not None:
            weights = folder.parent / "model.gguf"
            weights.write_bytes(b"weights")
            files = StateFiles(folder, StateOrigin(weights, model.state_parameters))
        budget = StateBudget(tokens * BYTES_PER_TOKEN, tokens * 100 * BYTES_PER_TOKEN if folder else 0)
        store = StateStore(budget, self.metrics, files)
        self.faults: list[BaseException] = []
        self.batcher = Batcher(model, self.metrics, queue=100, on_fault=self.faults.append, store=store)
        self.batcher.start()
        if folder is not None:
            self.until(lambda: store._files is not None)

    def submit(self, prompt, name: str | None = None, tokens: int = 20):
        ended, events = threading.Event(), []

        def take(event) -> None:
            events.append(event)
            if not isinstance(event, Delta):
                ended.set()

        job = AnswerJob(tuple(prompt), tokens, conversation=conversation_digest(name))
        ticket = self.batcher.submit(job, take)

        def result():
            assert ended.wait(WAIT)
            assert isinstance(events[-1], Finished), events[-1]
            return "".join(event.text for event in events[:-1]), events[-1].usage.reused

        return ticket, result

    def until(self, done) -> None:
        waited = threading.Event()
        for _ in range(100 * WAIT):
            if done():
                return
            waited.wait(0.01)
        pytest.fail("nothing happened")

    def ask(self, prompt, name: str | None = None):
        return self.submit(prompt, name)[1]()

    def value(self, name: str, **labels) -> float:
        return self.metrics._registry.get_sample_value(f"clawd_engine_{name}", labels) or 0.0


@pytest.fixture
def running(fake_model):
    made = []

    def start(tokens: int, folder: Path | None = None, **options) -> Running:
        engine = Running(fake_model(**options), tokens, folder)
        made.append(engine)
        return engine

    yield start
    for engine in made:
        engine.batcher.stop()
        assert not engine.faults


def conversation(number: int) -> list[int]:
    return [*SYSTEM, *(number * 7 + each for each in range(80))]


def test_conversation_comes_back_after_others(running, answer_of):
    engine = running(10_000, parallel=2)
    engine.ask(conversation(0), "0")
    for number in range(1, 20):
        engine.ask(conversation(number), str(number))
    prompt = [*conversation(0), 3, 4]
    text, reused = engine.ask(prompt, "0")
    assert reused >= len(conversation(0))
    assert text == answer_of(prompt, 20)
    assert engine.value("state_restores_total", where="memory") > 0


def test_system_prompt_is_kept_by_itself(running, answer_of):
    """After two conversations, the shared beginning is restored from a state of just that length."""
    engine = running(10_000, parallel=1)
    for number in range(3):
        text, reused = engine.ask(conversation(number), str(number))
        assert text == answer_of(conversation(number), 20)
    assert reused == len(SYSTEM)
    saves = engine.model.saves
    engine.ask(conversation(7), "7")
    assert engine.model.saves == saves + 1, "only the conversation that lost its slot"


def test_own_changes_of_a_conversation_are_not_kept_as_shared(running):
    """An answer that reads differently than it was written is no beginning that others share."""
    engine = running(10_000, parallel=1)
    for turn in range(4):
        engine.ask([*SYSTEM, *range(80 + turn), 250], "one")
    assert engine.model.saves == 0


def test_little_memory_gives_the_same_answers(running, answer_of):
    engine = running(300, parallel=2)
    for number in [*range(6), *range(6)]:
        text, _ = engine.ask(conversation(number), str(number))
        assert text == answer_of(conversation(number), 20)
    assert engine.value("state_bytes", where="memory") <= 300 * BYTES_PER_TOKEN
    assert engine.value("state_evictions_total", where="memory") > 0


def test_conversation_is_read_from_its_file(running, tmp_path, answer_of, monkeypatch):
    monkeypatch.setattr(store_module, "WRITE_AFTER_S", 0.0)
    engine = running(400, tmp_path / "states", parallel=1)
    engine.ask(conversation(0), "0")
    engine.ask(conversation(1), "1")
    engine.until(lambda: engine.value("states", where="disk") >= 2)  # it, and the system prompt
    for number in range(2, 10):
        engine.ask(conversation(number), str(number))
    prompt = [*conversation(0), 3, 4]
    text, reused = engine.ask(prompt, "0")
    assert text == answer_of(prompt, 20)
    assert reused >= len(conversation(0))
    assert engine.value("state_restores_total", where="disk") == 1


def test_conversation_survives_a_restart(running, tmp_path, answer_of):
    engine = running(10_000, tmp_path / "states", parallel=2)
    for number in range(4):
        engine.ask(conversation(number), str(number))
    engine.batcher.stop()
    again = running(10_000, tmp_path / "states", parallel=2)
    prompt = [*conversation(3), 3, 4]
    again.until(lambda: again.value("states", where="disk") >= 4)
    text, reused = again.ask(prompt, "3")
    assert text == answer_of(prompt, 20)
    assert reused >= len(conversation(3))


def test_refused_state_is_computed_again(running, answer_of):
    engine = running(10_000, parallel=1)
    for number in range(3):
        engine.ask(conversation(number), str(number))
    engine.model.refuse_states = True
    text, reused = engine.ask(conversation(0), "0")
    assert text == answer_of(conversation(0), 20)
    assert reused == 0
    assert engine.value("state_failures_total") > 0


def test_unused_slot_is_saved_while_nothing_is_computed(running, monkeypatch):
    monkeypatch.setattr(contents_module, "_SAVE_AFTER_S", 0.0)
    engine = running(10_000, parallel=2)
    engine.ask(conversation(0), "0")
    engine.until(lambda: engine.value("states", where="memory") == 1)


def test_state_that_takes_too_long_is_not_saved_while_others_wait(running, monkeypatch, answer_of):
    monkeypatch.setattr(contents_module, "LONGEST_STALL_S", -1.0)
    engine = running(10_000, parallel=2)
    for number in range(4):
        engine.ask(conversation(number), str(number))
    saves = engine.model.saves
    assert saves, "alone, it may take its time"
    results = [engine.submit(conversation(number), str(number))[1] for number in range(10, 14)]
    assert [result()[0] for result in results] == [answer_of(conversation(n), 20) for n in range(10, 14)]
    assert engine.model.saves - saves < len(results)


def test_internal_error_while_saving_does_not_stop_answers(running, answer_of, caplog, monkeypatch):
    monkeypatch.setattr(StateStore, "work", lambda self: 1 / 0)
    engine = running(10_000, parallel=1)
    text, _ = engine.ask(conversation(0))
    assert text == answer_of(conversation(0), 20)
    assert caplog.text.count("are not saved any more") == 1


names = st.sampled_from(["a", "b", None])
prompts = st.lists(st.integers(97, 99), min_size=1, max_size=120)


@given(
    jobs=st.lists(
        st.tuples(prompts, st.sampled_from(["a", "b", None]), st.booleans()), min_size=1, max_size=14
    ),
    shared=st.integers(0, 60),
    parallel=st.integers(1, 3),
    room=st.integers(0, 600),
    divisible=st.booleans(),
)
@hypothesis_settings(max_examples=60, deadline=None)
def test_answers_do_not_depend_on_saved_states(
    fake_model, answer_of, jobs, shared, parallel, room, divisible
):
    """After any order of saving, evicting, restoring and cancelling."""
    model = fake_model(parallel=parallel)
    model.divisible = divisible
    engine = Running(model, room)
    try:
        waiting = []
        for tail, name, cancelled in jobs:
            prompt = [*range(shared), *tail]
            ticket, result = engine.submit(prompt, name)
            if cancelled:
                engine.batcher.cancel(ticket)
            else:
                waiting.append((prompt, result))
        for prompt, result in waiting:
            text, reused = result()
            assert text == answer_of(prompt, 20)
            assert reused < len(prompt)
        assert engine.value("state_bytes", where="memory") <= room * BYTES_PER_TOKEN
    finally:
        engine.batcher.stop()
    assert not engine.faults
