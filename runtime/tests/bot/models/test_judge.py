"""Verdicts about models with a share: bad ones are stopped each time, good ones never."""

from __future__ import annotations

import random

import pytest

from clawd_runtime.bot.models.judge import HOPELESS, Judge, Trial
from clawd_runtime.bot.models.routes import JudgeSettings

GOOD = Trial(0.5, 3.0)


class Court:
    def __init__(self, **settings: float) -> None:
        self.now = 0.0
        self.judge = Judge(JudgeSettings.model_validate(settings), lambda: self.now)

    def hear(self, model: str, *trials: Trial, seconds: float = 1.0) -> None:
        for trial in trials:
            self.now += seconds
            self.judge.add(model, trial)


@pytest.mark.parametrize("seed", range(20))
def test_model_that_is_as_good_as_the_default_keeps_its_share(seed: int) -> None:
    court, r = Court(), random.Random(seed)
    for _ in range(400):
        model = "new" if r.random() < 0.25 else "default"
        failed, cut = r.random() < 0.01, r.random() < 0.05
        seconds = r.lognormvariate(0.0, 0.4)
        court.hear(model, Trial() if failed else Trial(seconds / 4, seconds, cut=cut))
        assert court.judge.objection("new") == ""


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (Trial(), "failed"),
        (Trial(0.5, 3.0, cut=True), "cut"),
        (Trial(2.0, 3.5), "first token"),
        (Trial(0.6, 9.0), "answer is 9.00 s"),
    ],
)
@pytest.mark.parametrize("seed", range(5))
def test_bad_model_is_stopped(bad: Trial, reason: str, seed: int) -> None:
    court, r = Court(), random.Random(seed)
    for _ in range(200):
        court.hear("default", GOOD)
        court.hear("new", bad if r.random() < 0.7 else GOOD)
    assert reason in court.judge.objection("new")


def test_model_that_only_fails_is_stopped_after_few_requests() -> None:
    court = Court(least=1000)
    court.hear("new", *[Trial()] * (HOPELESS - 1))
    assert court.judge.objection("new") == ""
    court.hear("new", Trial())
    assert "failed" in court.judge.objection("new")


def test_nothing_is_decided_before_the_least_number_of_answers() -> None:
    court = Court(least=10)
    court.hear("default", *[GOOD] * 50)
    court.hear("new", *[Trial(9.0, 30.0)] * 9)
    assert court.judge.objection("new") == ""
    court.hear("new", Trial(9.0, 30.0))
    assert court.judge.objection("new")


def test_answers_before_the_window_do_not_count() -> None:
    court = Court(window_seconds=60, least=5)
    court.hear("new", *[Trial(cut=True, total=1.0)] * 20)
    court.now += 61
    court.hear("default", *[GOOD] * 10)
    court.hear("new", *[GOOD] * 10)
    assert court.judge.objection("new") == ""
    assert court.judge.count("new") == 10


def test_faults_that_the_default_has_as_well_are_not_held_against_a_model() -> None:
    court = Court(least=10)
    for _ in range(30):
        court.hear("default", Trial(), GOOD)
        court.hear("new", Trial(), GOOD)
    assert court.judge.objection("new") == ""


def test_small_differences_of_short_times_do_not_count() -> None:
    court = Court(least=10)
    court.hear("default", *[Trial(0.05, 0.2)] * 20)
    court.hear("new", *[Trial(0.2, 0.45)] * 20)
    assert court.judge.objection("new") == ""
