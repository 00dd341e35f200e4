"""Several hosts at once, and a question that stops nothing."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

import gevent
import pytest

from provision.local.concurrency import for_each, outcomes, typed_line


def test_other_greenlets_run_while_input_is_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, encoding="utf-8") as keyboard, os.fdopen(writing, "w") as fingers:
        monkeypatch.setattr(sys, "stdin", keyboard)
        ticks: list[int] = []

        def tick() -> None:
            for number in range(5):
                gevent.sleep(0.01)
                ticks.append(number)
            fingers.write("yes\n")
            fingers.flush()

        gevent.spawn(tick)
        with gevent.Timeout(5):
            assert typed_line() == "yes\n"
        assert ticks == [0, 1, 2, 3, 4]


def test_end_of_input_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    person, terminal = os.openpty()
    with os.fdopen(terminal, encoding="utf-8") as keyboard:
        monkeypatch.setattr(sys, "stdin", keyboard)
        os.write(person, b"\x04")
        with gevent.Timeout(5):
            assert typed_line() == ""
    os.close(person)


def test_outcomes_run_concurrently_and_keep_the_order() -> None:
    started = time.monotonic()

    def slow(item: int) -> int:
        gevent.sleep(0.1)
        if item == 3:
            raise ValueError("three")
        return item * 10

    ended = outcomes([1, 2, 3, 4], slow)
    assert time.monotonic() - started < 0.35
    assert list(ended) == [1, 2, 3, 4]
    assert (ended[1], ended[4], str(ended[3])) == (10, 40, "three")


def test_for_each_raises_the_first_error_after_all_have_ended() -> None:
    ended: list[int] = []

    def function(item: int) -> int:
        gevent.sleep(0.01 * (5 - item))
        ended.append(item)
        if item in {2, 4}:
            raise ValueError(str(item))
        return item

    with pytest.raises(ValueError, match="2"):
        for_each([1, 2, 3, 4], function)
    assert sorted(ended) == [1, 2, 3, 4]


def test_removing_a_tree_opens_few_folders_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gevent.sleep(0)
    for number in range(200):
        (tmp_path / "tree" / str(number)).mkdir(parents=True)
    most, rmdir = 0, os.rmdir

    def counted(path: str, *, dir_fd: int | None = None) -> None:
        nonlocal most
        most = max(most, open_files())
        rmdir(path, dir_fd=dir_fd)

    before = open_files()
    monkeypatch.setattr(os, "rmdir", counted)
    monkeypatch.setattr(os, "supports_dir_fd", {*os.supports_dir_fd, counted})
    shutil.rmtree(tmp_path / "tree")
    assert most < before + 10


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
