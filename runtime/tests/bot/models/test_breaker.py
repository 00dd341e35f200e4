from __future__ import annotations

import pytest

from clawd_runtime.bot.models.breaker import BreakerRules, CircuitBreaker


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker(BreakerRules(in_a_row=3, first_wait=1.0, longest_wait=8.0), clock)


def fail(breaker: CircuitBreaker, times: int) -> None:
    for _ in range(times):
        breaker.failed(breaker.begin())


def half_open(breaker: CircuitBreaker) -> None:
    breaker.failed(breaker.begin(), certain=True)
    breaker.probed(responds=True)
    assert breaker.state == "half-open"


def test_opens_after_failures_in_a_row(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 2)
    assert breaker.admits
    fail(breaker, 1)
    assert (breaker.state, breaker.admits, breaker.down_since) == ("open", False, clock.now)
    assert breaker.probe_at == clock.now + 1.0


def test_success_ends_the_row_of_failures(breaker: CircuitBreaker) -> None:
    for _ in range(3):
        fail(breaker, 2)
        breaker.succeeded(breaker.begin())
    assert breaker.state == "closed"


def test_opens_when_half_of_recent_requests_fail(breaker: CircuitBreaker) -> None:
    for _ in range(4):
        breaker.succeeded(breaker.begin())
        fail(breaker, 1)
    assert breaker.admits
    breaker.succeeded(breaker.begin())
    fail(breaker, 1)
    assert breaker.state == "open"


def test_old_failures_do_not_count(breaker: CircuitBreaker, clock: Clock) -> None:
    for _ in range(20):
        breaker.succeeded(breaker.begin())
        fail(breaker, 1)
        clock.now += 16.0
    assert breaker.state == "closed"


def test_certain_failure_opens_at_once_and_retry_after_delays_the_probe(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    breaker.failed(breaker.begin(), after=5.0, certain=True)
    assert (breaker.state, breaker.probe_at) == ("open", clock.now + 5.0)


def test_half_open_admits_one_request(breaker: CircuitBreaker) -> None:
    half_open(breaker)
    ticket = breaker.begin()
    assert not breaker.admits
    breaker.responded(ticket)
    assert (breaker.state, breaker.down_since) == ("closed", None)


def test_half_open_admits_another_request_when_the_first_is_abandoned(breaker: CircuitBreaker) -> None:
    half_open(breaker)
    breaker.abandoned(breaker.begin())
    assert breaker.admits


def test_failed_trial_opens_again_with_longer_waits(breaker: CircuitBreaker, clock: Clock) -> None:
    half_open(breaker)
    waits = []
    for _ in range(5):
        fail(breaker, 1)
        assert breaker.state == "open"
        waits.append(breaker.probe_at - clock.now)
        breaker.probed(responds=True)
    assert waits == [2.0, 4.0, 8.0, 8.0, 8.0]
    assert breaker.down_since == clock.now


def test_failed_probes_wait_longer_each_time(breaker: CircuitBreaker, clock: Clock) -> None:
    breaker.failed(breaker.begin(), certain=True)
    waits = []
    for _ in range(5):
        breaker.probed(responds=False)
        waits.append(breaker.probe_at - clock.now)
    assert waits == [2.0, 4.0, 8.0, 8.0, 8.0]


def test_results_of_requests_from_before_the_change_are_ignored(breaker: CircuitBreaker) -> None:
    old = breaker.begin()
    half_open(breaker)
    trial = breaker.begin()
    breaker.responded(old)
    breaker.failed(old)
    breaker.abandoned(old)
    assert (breaker.state, breaker.admits) == ("half-open", False)
    breaker.succeeded(trial)
    assert breaker.state == "closed"


def test_every_change_of_state_is_reported(breaker: CircuitBreaker) -> None:
    seen = []
    breaker.on_change = lambda: seen.append(breaker.state)
    half_open(breaker)
    breaker.succeeded(breaker.begin())
    assert seen == ["open", "half-open", "closed"]
