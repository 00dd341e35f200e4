"""The batcher with a model whose answers are known, so that wrong batching, reuse or copies are detected."""

from __future__ import annotations

import queue
import threading
import time

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from clawd_runtime.engine.batching.batcher import Batcher
from clawd_runtime.engine.batching.sequence import Ticket
from clawd_runtime.engine.batching.step_costs import FIRST_ROOM
from clawd_runtime.engine.metrics import EngineMetrics
from clawd_runtime.engine.values import AnswerJob, Delta, Failed, Finished
from clawd_runtime.errors import BusyError, EngineError, NotReadyError, RequestError

WAIT = 10


class Caller:
    """A client that collects the events of one job."""

    ticket: Ticket

    def __init__(self) -> None:
        self.events: queue.Queue = queue.Queue()

    def result(self):
        text = ""
        while True:
            event = self.events.get(timeout=WAIT)
            if not isinstance(event, Delta):
                return text, event
            text += event.text


@pytest.fixture
def started():
    made = []

    def start(model, *, waiting=8, on_fault=lambda fault: None) -> Batcher:
        batcher = Batcher(model, EngineMetrics(), queue=waiting, on_fault=on_fault)
        made.append(batcher)
        batcher.start()
        return batcher

    yield start
    for batcher in made:
        batcher.stop()


def ask(batcher: Batcher, prompt, max_tokens=30, **job) -> Caller:
    caller = Caller()
    caller.ticket = batcher.submit(AnswerJob(tuple(prompt), max_tokens, **job), caller.events.put)
    return caller


class Gate:
    """A gate that blocks the model before each step until it is opened."""

    def __init__(self, model) -> None:
        self._open = threading.Event()
        self.reached = threading.Event()
        model.before_step = self._pass

    def _pass(self) -> None:
        self.reached.set()
        assert self._open.wait(WAIT)

    def open(self) -> None:
        self._open.set()


prompts = st.lists(st.integers(97, 99), min_size=1, max_size=150)


@given(
    jobs=st.lists(st.tuples(prompts, st.integers(1, 40), st.booleans()), min_size=1, max_size=12),
    shared=st.integers(0, 60),
    parallel=st.integers(1, 5),
)
@hypothesis_settings(max_examples=60)
def test_answers_are_independent_of_batching(fake_model, answer_of, jobs, shared, parallel):
    """Concurrent jobs, reused prompts and cancelled jobs do not change an answer."""
    model = fake_model(parallel=parallel)
    batcher = Batcher(model, EngineMetrics(), queue=100, on_fault=lambda fault: None)
    batcher.start()
    try:
        callers = []
        for tail, max_tokens, cancelled in jobs:
            prompt = [*range(shared), *tail]
            caller = ask(batcher, prompt, max_tokens)
            callers.append((caller, prompt, max_tokens, cancelled))
            if cancelled:
                batcher.cancel(caller.ticket)
        for caller, prompt, max_tokens, cancelled in callers:
            if cancelled:
                continue
            text, end = caller.result()
            assert text == answer_of(prompt, max_tokens)
            assert isinstance(end, Finished)
            assert end.reason == ("length" if len(text) == max_tokens else "stop")
            assert end.usage.prompt == len(prompt)
            assert end.usage.reused < len(prompt)
    finally:
        batcher.stop()
    assert not model.drawing


def test_continued_conversation_computes_only_new_tokens(started, fake_model):
    model = fake_model()
    batcher = started(model)
    first = list(range(40, 90))
    answer, _ = ask(batcher, first).result()
    model.steps.clear()
    _, end = ask(batcher, [*first, *answer.encode(), 1, 2, 3]).result()
    assert end.usage.reused >= len(first) + len(answer) - 1
    prefilled = next(feed for feed in model.steps[0])
    assert len(prefilled.tokens) <= 4


def test_system_prompt_is_copied_between_slots(started, fake_model):
    model = fake_model()
    batcher = started(model)
    system = list(range(100))
    ask(batcher, [*system, *range(200, 230)]).result()
    _, end = ask(batcher, [*system, *([7] * 200)]).result()
    assert end.usage.reused == 100


def test_concurrent_requests_compute_system_prompt_once(started, fake_model):
    model = fake_model(parallel=3)
    gate = Gate(model)
    batcher = started(model)
    system = list(range(100))
    callers = [ask(batcher, [*system, 200 + number]) for number in range(3)]
    gate.open()
    for caller in callers:
        caller.result()
    # All but the few tokens that were still being computed when the others began.
    assert sum(len(feed.tokens) for step in model.steps for feed in step if len(feed.tokens) > 1) < 120


def test_prompt_is_chunked_while_answer_is_written(started, fake_model, answer_of):
    model = fake_model(parallel=2)
    gate = Gate(model)
    batcher = started(model)
    long_answer = next([seed] for seed in range(200) if len(answer_of([seed], 30)) == 30)
    writer = ask(batcher, long_answer)
    assert gate.reached.wait(WAIT)
    reader = ask(batcher, range(300))
    gate.open()
    writer.result()
    reader.result()
    mixed = [step for step in model.steps if len(step) == 2 and any(len(f.tokens) > 1 for f in step)]
    assert mixed
    assert all(min(len(feed.tokens) for feed in step) == 1 for step in mixed)
    assert len(mixed[0][1].tokens) <= FIRST_ROOM


def test_answers_are_computed_in_one_batch(started, fake_model):
    model = fake_model(parallel=3)
    gate = Gate(model)
    batcher = started(model)
    callers = [ask(batcher, [seed], max_tokens=8) for seed in (1, 2, 3)]
    gate.open()
    for caller in callers:
        caller.result()
    assert any(len(step) == 3 for step in model.steps)


@pytest.mark.parametrize("divisible", [True, False])
def test_step_of_cancelled_answers_is_interrupted(started, fake_model, answer_of, divisible):
    model = fake_model(parallel=2)
    model.divisible = divisible
    gate = Gate(model)
    batcher = started(model)
    first, second = ask(batcher, [5] * 30), ask(batcher, [6] * 30)
    assert gate.reached.wait(WAIT)
    batcher.cancel(first.ticket)
    batcher.cancel(second.ticket)
    gate.open()
    assert ask(batcher, [5] * 30).result()[0] == answer_of([5] * 30, 30)
    assert model.interruptions <= 1
    assert first.events.empty()
    assert second.events.empty()


def test_interrupted_step_is_computed_again_for_others(started, fake_model, answer_of):
    """An answer may be submitted between the interruption and its step."""
    model = fake_model(parallel=2)
    batcher = started(model)
    left = [3]

    def interrupt_some() -> None:
        if left[0]:
            left[0] -= 1
            model.interrupt()

    model.before_step = interrupt_some
    text, _ = ask(batcher, [7] * 100).result()
    assert text == answer_of([7] * 100, 30)
    assert model.interruptions == 3


def test_cancel_frees_slot_for_waiting_job(started, fake_model, answer_of):
    model = fake_model(parallel=1)
    gate = Gate(model)
    batcher = started(model)
    running = ask(batcher, [5] * 10, max_tokens=400)
    assert gate.reached.wait(WAIT)
    waiting = ask(batcher, [6] * 10)
    batcher.cancel(running.ticket)
    gate.open()
    assert waiting.result()[0] == answer_of([6] * 10, 30)
    assert running.events.empty()
    assert len(model.steps) < 400


def test_full_queue_refuses_jobs(started, fake_model):
    model = fake_model(parallel=1)
    gate = Gate(model)
    batcher = started(model, waiting=2)
    accepted = [ask(batcher, [1])]
    assert gate.reached.wait(WAIT)
    accepted += [ask(batcher, [2]), ask(batcher, [3])]
    with pytest.raises(BusyError) as caught:
        ask(batcher, [4])
    assert caught.value.status == 429
    assert (caught.value.retry_after or 0) >= 1
    gate.open()
    for caller in accepted:
        assert isinstance(caller.result()[1], Finished)


def test_free_slots_accept_jobs_without_queue(started, fake_model):
    batcher = started(fake_model(parallel=1), waiting=0)
    assert isinstance(ask(batcher, [1]).result()[1], Finished)


@pytest.mark.parametrize(("size", "limit"), [(512, 1), (500, 13), (1, 512)])
def test_too_long_job_is_refused(started, fake_model, size, limit):
    batcher = started(fake_model(context_size=512))
    with pytest.raises(RequestError) as caught:
        ask(batcher, [1] * size, max_tokens=limit)
    assert (caught.value.status, caught.value.code) == (400, "context_length_exceeded")


def test_job_of_context_size_is_answered(started, fake_model):
    batcher = started(fake_model(context_size=512))
    assert isinstance(ask(batcher, [1] * 500, max_tokens=12).result()[1], Finished)


def test_stop_string_ends_answer(started, fake_model, answer_of):
    batcher = started(fake_model())
    prompt = next([seed] for seed in range(200) if len(answer_of([seed], 30)) > 10)
    whole = answer_of(prompt, 30)
    text, end = ask(batcher, prompt, stop=(whole[4:7],)).result()
    assert text == whole[: whole.index(whole[4:7])]
    assert end.reason == "stop"


def test_failed_step_fails_only_its_answers(started, fake_model, answer_of):
    model = fake_model(parallel=1)
    batcher = started(model)
    ask(batcher, [9] * 40).result()
    model.fail_next = True
    _, end = ask(batcher, [9] * 41).result()
    assert isinstance(end, Failed)
    assert isinstance(end.fault, EngineError)
    assert ask(batcher, [9] * 42).result()[0] == answer_of([9] * 42, 30)


@pytest.mark.parametrize(
    ("failures", "ends"), [((True,) * 3, True), ((True, True, False, True, True), False)]
)
def test_consecutive_failed_steps_end_engine(started, fake_model, failures, ends):
    faults: queue.Queue = queue.Queue()
    model = fake_model(parallel=1)
    batcher = started(model, on_fault=faults.put)
    for failing in failures:
        model.fail_next = failing
        _, end = ask(batcher, [9] * 40, max_tokens=3).result()
        assert isinstance(end, Failed if failing else Finished)
    if ends:
        assert isinstance(faults.get(timeout=WAIT), EngineError)
        with pytest.raises(NotReadyError):
            ask(batcher, [9])
    else:
        assert isinstance(ask(batcher, [9] * 40).result()[1], Finished)
        assert faults.empty()


class Broken(Exception):
    """An internal error of one of the engine's parts."""


class PartlyBroken:
    """A model whose `part` raises for slot 1 only, while that slot is admitted, drawn or ended."""

    def __init__(self, model, part: str) -> None:
        self.model, self.part, self.raised = model, part, 0
        self.whole, self.draw, self.drawn = getattr(model, part), model.draw, 0
        model.draw = self._draw
        setattr(model, part, self._call)

    def _draw(self, seq: int) -> int:
        self.drawn = seq
        return self._call(seq) if self.part == "draw" else self.draw(seq)

    def _call(self, first: int, *others: object):
        if (self.drawn if self.part in ("piece", "ends_answer") else first) == 1:
            self.raised += 1
            raise Broken
        return self.whole(first, *others)

    def repair(self) -> None:
        self.model.draw = self.draw
        setattr(self.model, self.part, self.whole)
        self.model.end(1)
        self.model.keep(1, 0)


def breaks(*_: object, **__: object) -> None:
    raise Broken


@pytest.mark.parametrize("part", ["keep", "begin", "draw", "piece", "ends_answer", "end"])
def test_error_in_one_answer_fails_only_that_answer(started, fake_model, answer_of, part):
    faults: queue.Queue = queue.Queue()
    model = fake_model(parallel=2)
    gate = Gate(model)
    batcher = started(model, on_fault=faults.put)
    first, second = [seed for seed in range(400) if len(answer_of([seed], 30)) == 30][:2]
    healthy = ask(batcher, [first])
    assert gate.reached.wait(WAIT)
    broken = PartlyBroken(model, part)
    ill = ask(batcher, [second])
    gate.open()
    assert isinstance(ill.result()[1], Finished if part == "end" else Failed)
    assert healthy.result()[0] == answer_of([first], 30)
    assert broken.raised
    broken.repair()
    together = [ask(batcher, [second]), ask(batcher, [first])]
    assert [caller.result()[0] for caller in together] == [answer_of([seed], 30) for seed in (second, first)]
    assert faults.empty()


def test_unexpected_step_error_fails_only_its_answers(started, fake_model, answer_of):
    model = fake_model(parallel=1)
    batcher = started(model)
    model.before_step = breaks
    assert isinstance(ask(batcher, [9] * 41).result()[1], Failed)
    model.before_step = lambda: None
    assert ask(batcher, [9] * 42).result()[0] == answer_of([9] * 42, 30)


def test_failing_emit_does_not_affect_other_clients(started, fake_model, answer_of):
    faults: queue.Queue = queue.Queue()
    model = fake_model(parallel=2)
    batcher = started(model, on_fault=faults.put)
    batcher.submit(AnswerJob((1,), 5), breaks)
    assert ask(batcher, [9] * 42).result()[0] == answer_of([9] * 42, 30)
    assert faults.empty()


def test_internal_error_is_reported_when_emit_fails(started, fake_model, monkeypatch):
    faults: queue.Queue = queue.Queue()
    monkeypatch.setattr("clawd_runtime.engine.batching.batcher.next_batch", breaks)
    batcher = started(fake_model(parallel=1), on_fault=faults.put)
    batcher.submit(AnswerJob((1,), 5), breaks)
    assert isinstance(faults.get(timeout=WAIT), Broken)


def test_internal_error_of_batcher_fails_all_jobs(started, fake_model, monkeypatch):
    faults: queue.Queue = queue.Queue()
    model = fake_model(parallel=1)
    model.ends_answer = lambda token: False
    gate = Gate(model)
    batcher = started(model, on_fault=faults.put)
    callers = [ask(batcher, [1]), ask(batcher, [2])]
    assert gate.reached.wait(WAIT)
    monkeypatch.setattr("clawd_runtime.engine.batching.batcher.next_batch", breaks)
    gate.open()
    assert isinstance(faults.get(timeout=WAIT), Broken)
    assert all(isinstance(caller.result()[1], Failed) for caller in callers)
    assert batcher.stalled(1000) is False
    with pytest.raises(NotReadyError):
        ask(batcher, [3])


def test_stopped_batcher_refuses_and_fails_jobs(started, fake_model):
    model = fake_model(parallel=1)
    gate = Gate(model)
    batcher = started(model)
    caller = ask(batcher, [1], max_tokens=400)
    assert gate.reached.wait(WAIT)
    stopping = threading.Thread(target=batcher.stop)
    stopping.start()
    while not batcher._closed:
        time.sleep(0.001)
    gate.open()
    stopping.join(WAIT)
    assert isinstance(caller.result()[1], Failed | Finished)
    with pytest.raises(NotReadyError):
        ask(batcher, [1])


def test_hanging_step_is_a_stall(started, fake_model):
    model = fake_model(parallel=1)
    gate = Gate(model)
    batcher = started(model)
    assert not batcher.stalled(0)
    caller = ask(batcher, [1])
    assert gate.reached.wait(WAIT)
    time.sleep(0.05)
    assert batcher.stalled(0.02)
    gate.open()
    caller.result()
    deadline = time.monotonic() + WAIT
    while batcher.stalled(0):
        assert time.monotonic() < deadline


def test_users_take_turns(started, fake_model):
    model = fake_model(parallel=1)
    gate = Gate(model)
    batcher = started(model)
    order = []
    jobs = [(user, number) for number, user in enumerate(["anna"] * 6 + ["ben", "cleo"])]
    for user, number in jobs:
        job = AnswerJob((number + 1, 7), 1, user=user)
        batcher.submit(
            job, lambda event, user=user: order.append(user) if not isinstance(event, Delta) else None
        )
    gate.open()
    deadline = time.monotonic() + WAIT
    while len(order) < len(jobs):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert order == ["anna", "ben", "cleo", "anna", "anna", "anna", "anna", "anna"]
