"""Several hosts at once, and a question that stops nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import gevent
import pytest
from gevent.event import Event

from provision.local.concurrency import for_each, outcomes, typed_line

ROOT = Path(__file__).resolve().parents[3]


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
    all_started = Event()
    started: list[int] = []

    def slow(item: int) -> int:
        started.append(item)
        if len(started) == 4:
            all_started.set()
        assert all_started.wait(10), "the others do not start before this one ends"
        if item == 3:
            raise ValueError("three")
        return item * 10

    ended = outcomes([1, 2, 3, 4], slow)
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


def test_enabling_reads_the_installed_packages_once() -> None:
    code = (
        "from importlib import metadata\n"
        "from provision.local import concurrency\n"
        "read, distributions = [], metadata.distributions\n"
        "metadata.distributions = lambda **chosen: read.append(chosen) or distributions(**chosen)\n"
        "concurrency.enable()\n"
        "print(len(read), concurrency.enabled(), len(metadata.entry_points()) > 0, len(read))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "1 True True 2\n"
