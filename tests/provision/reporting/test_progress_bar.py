"""The progress bar of long work."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from provision.reporting.progress_bar import ProgressBar


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_short_work_prints_nothing(clock: list[float]) -> None:
    output = io.StringIO()
    with ProgressBar(Console(file=output)) as bar:
        bar("quantising", 0.1)
        clock[0] = 1.9
        bar("quantising", 0.9)
    assert output.getvalue() == ""


def test_each_step_prints_a_line_and_a_long_one_another_every_30_seconds(clock: list[float]) -> None:
    output = io.StringIO()
    with ProgressBar(Console(file=output)) as bar:
        for clock[0], what, part in (
            (2.0, "quantising", 0.1),
            (3.0, "quantising", 0.2),
            (32.5, "quantising", 0.5),
            (33.0, "measuring", None),
        ):
            bar(what, part)
    assert output.getvalue() == "quantising 10%\nquantising 50%\nmeasuring\n"


def test_quiet_bar_prints_nothing(clock: list[float]) -> None:
    output = io.StringIO()
    with ProgressBar(Console(file=output), quiet=True) as bar:
        clock[0] = 60.0
        bar("quantising", 0.5)
    assert output.getvalue() == ""
