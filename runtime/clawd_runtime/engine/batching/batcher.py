"""Continuous batching: many answers computed together, one step at a time, in one thread.

Each iteration of the loop admits waiting jobs to free slots, computes one step for all running sequences
(`schedule.next_batch`), draws a token for each that is ready, and emits its text. A cancelled job frees its
slot before the next step.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from itertools import islice

from clawd_runtime.engine.batching.computer import Computer, Feed, StepInterrupted
from clawd_runtime.engine.batching.contents import SlotContents, SlotSource
from clawd_runtime.engine.batching.schedule import Share, next_batch, next_in_line
from clawd_runtime.engine.batching.sequence import Sequence, Ticket, check_fits
from clawd_runtime.engine.batching.slots import better_soon
from clawd_runtime.engine.batching.step_costs import StepCosts
from clawd_runtime.engine.metrics import EngineMetrics
from clawd_runtime.engine.states.store import StateStore
from clawd_runtime.engine.states.values import StateBudget
from clawd_runtime.engine.values import AnswerJob, Delta, Event, Failed, Finished
from clawd_runtime.errors import BusyError, EngineError, NotReadyError, RequestError, RuntimeFault

_log = logging.getLogger("clawd.engine")

# After this many failed steps in a row the context is considered broken, and the process ends for a restart.
MOST_FAILED_STEPS = 3
SAVE_SECONDS = 6.0
"""Seconds in which the states of conversations are saved at the end."""
_READING_S, _WORKING_S, _RESTING_S = 0.05, 0.5, 60.0
"""Seconds between two looks: at a state that is read, at what is to be saved, and otherwise."""


class Batcher:
    """A thread that computes jobs on `computer`. `queue` is how many may wait in addition to those running.

    `on_fault` is called from the thread when an internal error ends it; by then all jobs have failed.
    """

    def __init__(
        self,
        computer: Computer,
        metrics: EngineMetrics,
        *,
        queue: int,
        on_fault: Callable[[BaseException], None],
        store: StateStore | None = None,
    ) -> None:
        self._computer = computer
        self._metrics = metrics
        self._queue = queue
        self._on_fault = on_fault
        self._turn = threading.Condition()
        self._waiting: deque[Ticket] = deque()
        self._running: dict[int, Sequence] = {}
        kept = store if store is not None else StateStore(StateBudget(memory=0), metrics)
        self._contents = SlotContents(computer, kept, metrics)
        self._news = self._blocked = False
        self._clock = 0
        self._turns: dict[str, int] = {}
        self._failed_steps = 0
        self._costs = StepCosts(computer.parallel)
        self._closed = False
        self._progress = time.monotonic()
        self._thread = threading.Thread(target=self._loop, name="batcher", daemon=True)
        metrics.kv_capacity.set(computer.parallel * computer.context_size)

    # --- for other threads ----------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread."""
        self._contents.open(self._wake)
        self._thread.start()

    def _wake(self) -> None:
        with self._turn:
            self._news = True
            self._turn.notify()

    def submit(self, job: AnswerJob, emit: Callable[[Event], None]) -> Ticket:
        """Queue `job` and return its ticket.

        Its events are passed to `emit`, which is called from the batcher's thread and must not block.

        Raises:
            RequestError: Prompt and answer do not fit into the context (`context_length_exceeded`).
            BusyError: The queue is full.
            NotReadyError: The batcher is stopped.

        """
        return self.submit_all([(job, emit)])[0]

    def submit_all(self, jobs: Collection[tuple[AnswerJob, Callable[[Event], None]]]) -> list[Ticket]:
        """Queue all of `jobs`, each with its `emit`, or none of them; see `submit`."""
        if len(jobs) > self._computer.parallel + self._queue:
            raise RequestError(
                f"too many answers in one request: {len(jobs)}, at most "
                f"{self._computer.parallel + self._queue} fit into the queue",
                param="n",
            )
        for job, _ in jobs:
            check_fits(job, self._computer.context_size)
        tickets = [Ticket(job, emit, time.monotonic()) for job, emit in jobs]
        with self._turn:
            if self._closed:
                raise NotReadyError("the engine is stopping")
            free = self._computer.parallel - len(self._running)
            if len(self._waiting) + len(jobs) > self._queue + free:
                raise BusyError(
                    f"engine busy: {len(self._waiting)} requests are waiting",
                    retry_after=self._retry_after(),
                )
            if not self._waiting and not self._running:
                self._progress = time.monotonic()
            self._waiting += tickets
            self._news = True
            self._metrics.queued.set(len(self._waiting))
            self._turn.notify()
        self._metrics.prompt_tokens.inc(sum(len(job.prompt) for job, _ in jobs))
        return tickets

    def cancel(self, ticket: Ticket) -> None:
        """Stop computing `ticket`, which gets no further events. Do nothing if it is done."""
        with self._turn:
            ticket.cancelled = self._news = True
            self._turn.notify()
            if all(run.ticket.cancelled for run in self._running.values()):
                self._computer.interrupt()

    def stalled(self, seconds: float) -> bool:
        """Return whether there is work and no step has ended for `seconds`, or the thread has died."""
        with self._turn:
            if not self._thread.is_alive():
                return not self._closed
            busy = bool(self._waiting or self._running)
            return busy and time.monotonic() - self._progress > seconds

    def stop(self) -> None:
        """Fail the remaining jobs and end the thread; return when it has ended."""
        with self._turn:
            self._closed = True
            self._turn.notify()
            self._computer.interrupt()
        if self._thread.is_alive():
            self._thread.join()

    def _retry_after(self) -> int:
        """Return the seconds until a slot is likely free, estimated from the age of the running answers."""
        now = time.monotonic()
        return max(1, min(30, round(max((now - run.placed for run in self._running.values()), default=1))))

    # --- in the batcher's thread ------------------------------------------------------------------

    def _loop(self) -> None:
        try:
            while self._wait_for_work():
                self._contents.work(self._running)
                self._drop_cancelled()
                self._admit()
                if self._running:
                    self._step()
            self._fail_all(NotReadyError("the engine is stopping"))
            self._contents.close(SAVE_SECONDS)
        except BaseException as fault:
            _log.exception("internal error: the batcher has failed")
            with self._turn:
                self._closed = True
            try:
                self._fail_all(EngineError("internal error: see the engine's log"))
            finally:
                self._on_fault(fault)

    def _wait_for_work(self) -> bool:
        with self._turn:
            if not (self._closed or self._news or self._running):
                if self._waiting and self._blocked:
                    self._turn.wait(_READING_S)
                elif not self._waiting:
                    self._turn.wait(_RESTING_S if self._contents.resting else _WORKING_S)
            self._news = False
            return not self._closed

    def _drop_cancelled(self) -> None:
        with self._turn:
            kept = [ticket for ticket in self._waiting if not ticket.cancelled]
            dropped = len(self._waiting) - len(kept)
            if dropped:
                for ticket in self._waiting:
                    if ticket.cancelled:
                        self._contents.let_go(ticket)
                        ticket.close()
                self._waiting = deque(kept)
        gone = [run for run in self._running.values() if run.ticket.cancelled]
        for run in gone:
            self._release(run)
        self._metrics.requests.labels("cancelled").inc(dropped + len(gone))

    def _admit(self) -> None:
        """Admit waiting jobs to free slots, those of users with the fewest running answers first."""
        self._blocked = False
        with self._turn:
            for ticket in islice(self._waiting, self._computer.parallel):
                self._contents.awaits(ticket, free=False)
        while True:
            with self._turn:
                if not self._waiting or len(self._running) == self._computer.parallel:
                    self._metrics.queued.set(len(self._waiting))
                    return
                ready = [ticket for ticket in self._waiting if not self._contents.awaits(ticket)]
                self._blocked = not ready
                if not ready:
                    return
                running = [run.ticket.job.user for run in self._running.values()]
                waiting = [ticket.job.user for ticket in ready]
                ticket = ready[next_in_line(waiting, running, self._turns)]
                slots = self._contents.held(self._running)
                if better_soon(slots, self._reading(), ticket.job.prompt):
                    return
                self._waiting.remove(ticket)
                others = bool(self._running)
                source = self._contents.choose(slots, ticket, others=others)
                assert source is not None, "a slot is free, but none was found"
                self._clock += 1
                self._turns = {user: self._turns.get(user, 0) for user in {*waiting, *running}}
                self._turns[ticket.job.user] = self._clock
                run = Sequence(ticket, source.seq, self._clock, 0, time.monotonic(), ticket.job.prompt)
                self._running[run.seq] = run
            try:
                self._settle(run, source, others=others)
            except Exception as error:
                self._fail_alone(run, error)

    def _reading(self) -> list[tuple[int, ...]]:
        return [run.ticket.job.prompt for run in self._running.values() if not run.written]

    def _settle(self, run: Sequence, source: SlotSource, *, others: bool) -> None:
        """Make the slot hold exactly the reusable beginning of the prompt."""
        kept = self._contents.fill(source, run.ticket, others=others)
        self._contents.let_go(run.ticket)
        run.take(kept)
        self._computer.begin(run.seq, run.ticket.job.sampling)
        run.reused = kept
        self._metrics.reused_tokens.inc(kept)
        self._metrics.queue_seconds.observe(run.placed - run.ticket.submitted)
        self._metrics.running.set(len(self._running))

    def _step(self) -> None:
        wanting = [run.wanting() for run in self._running.values()]
        writing, capacity = sum(want.writing for want in wanting), self._computer.capacity
        room = self._costs.room(writing=writing, capacity=capacity)
        feeds = [self._feed(share) for share in next_batch(wanting, room=room, capacity=capacity)]
        started = time.monotonic()
        try:
            self._computer.step(feeds)
        except StepInterrupted as interrupted:
            self._undo(feeds, interrupted)
            return
        except Exception as error:
            self._fail_step(feeds, error)
            self._failed_steps += 1
            if self._failed_steps == MOST_FAILED_STEPS:
                raise
            return
        finally:
            self._progress = time.monotonic()
            self._metrics.step_seconds.observe(self._progress - started)
        prompt = sum(len(feed.tokens) for feed in feeds) - writing
        self._costs.observe(writing=writing, prompt=prompt, seconds=self._progress - started)
        self._failed_steps = 0
        for feed in feeds:
            self._contents.extend(feed.seq, feed.tokens)
        for feed in feeds:
            run = self._running[feed.seq]
            if not run.written:
                self._metrics.prefill_tokens.inc(len(feed.tokens))
            if feed.draw and not run.ticket.cancelled:
                try:
                    self._write(run)
                except Exception as error:
                    self._fail_alone(run, error)
        self._metrics.kv_tokens.set(self._contents.total())

    def _feed(self, share: Share) -> Feed:
        run = self._running[share.seq]
        tokens = run.take(share.count)
        return Feed(share.seq, self._contents.count(share.seq), tokens, draw=not run.todo)

    def _undo(self, feeds: list[Feed], interrupted: StepInterrupted) -> None:
        """Put the tokens of an interrupted step back; fail the answers that have lost theirs."""
        for feed in feeds:
            run = self._running[feed.seq]
            if feed.seq in interrupted.lost:
                self._fail_alone(run, interrupted)
            else:
                run.todo = (*feed.tokens, *run.todo)

    def _write(self, run: Sequence) -> None:
        job, reasoning = run.ticket.job, run.text.reasoning
        if job.constraint is None:
            token = self._computer.draw(run.seq)
        else:
            token = self._computer.draw(run.seq, None if reasoning else job.constraint)
        ends = self._computer.ends_answer(token)
        splits, reason = run.write(token, self._computer.piece(token), ends=ends)
        if run.first_token is None:
            run.first_token = time.monotonic()
            self._metrics.prefill_seconds.observe(run.first_token - run.placed)
        self._metrics.completion_tokens.inc()
        if job.top_logprobs is None:
            for split in splits:
                if split.answer or split.reasoning or split.restarts:
                    _emit(run.ticket, Delta(split.answer, split.reasoning, split.restarts))
        else:
            if run.text.reasoning or any(split.restarts for split in splits):
                run.unsent.clear()  # the tokens of the mark
            elif not (ends or reasoning):
                run.unsent.append(self._computer.logprob(run.seq, token, job.top_logprobs))
            for number, split in enumerate(splits, 1):
                last = reason is not None and number == len(splits)
                logprobs = run.certain_logprobs(split.answer, ended=last)
                if split.answer or split.reasoning or split.restarts or logprobs:
                    _emit(run.ticket, Delta(split.answer, split.reasoning, split.restarts, logprobs))
        if reason is not None:
            self._metrics.decode_seconds.observe(time.monotonic() - run.first_token)
            self._metrics.requests.labels(reason).inc()
            self._release(run)
            _emit(run.ticket, Finished(reason, run.usage()))

    def _release(self, run: Sequence) -> None:
        """Free the slot; its tokens stay for the next turn of the conversation."""
        try:
            self._computer.end(run.seq)
        except Exception:
            _log.exception("slot %d: releasing it after an answer failed", run.seq)
            self._forget(run.seq)
        run.ticket.close()
        with self._turn:
            del self._running[run.seq]
            self._contents.leave(run.seq)
        self._metrics.running.set(len(self._running))

    def _forget(self, seq: int) -> None:
        """Empty a slot whose content is unknown."""
        self._contents.empty(seq)
        try:
            self._computer.keep(seq, 0)
        except Exception:
            _log.exception("slot %d: emptying it failed", seq)

    def _fail_step(self, feeds: list[Feed], error: Exception) -> None:
        """Fail the answers of a failed step, and empty their slots."""
        if isinstance(error, EngineError):
            fault = error
            _log.error("%s", fault)
        else:
            fault = EngineError("internal error: a decoding step failed; see the engine's log")
            _log.error("internal error: a decoding step failed", exc_info=error)
        for feed in feeds:
            self._forget(feed.seq)
            self._fail(self._running[feed.seq], fault)

    def _fail_alone(self, run: Sequence, error: Exception) -> None:
        """Fail one answer because of `error`, which affects no other."""
        fault: RuntimeFault = EngineError("internal error: this answer failed; see the engine's log")
        if isinstance(error, RequestError):
            fault = error
            _log.info("an answer failed: %s", error)
        else:
            _log.error("internal error: an answer failed", exc_info=error)
        if self._running.get(run.seq) is run:
            self._forget(run.seq)
            self._fail(run, fault)

    def _fail(self, run: Sequence, fault: RuntimeFault) -> None:
        self._release(run)
        self._metrics.requests.labels("failed").inc()
        _emit(run.ticket, Failed(fault))

    def _fail_all(self, fault: RuntimeFault) -> None:
        for run in list(self._running.values()):
            self._fail(run, fault)
        with self._turn:
            waiting, self._waiting = self._waiting, deque()
        for ticket in waiting:
            self._contents.let_go(ticket)
            ticket.close()
            _emit(ticket, Failed(fault))


def _emit(ticket: Ticket, event: Event) -> None:
    """Pass `event` to the ticket's client, whose event loop may be closed already."""
    try:
        ticket.emit(event)
    except Exception as error:
        ticket.cancelled = True
        _log.warning("cannot deliver an event to a client: %s", error)
