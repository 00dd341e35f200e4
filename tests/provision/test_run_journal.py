"""Entries of the hosts' journals."""

from __future__ import annotations

from dataclasses import replace

import pytest

from provision.plan import HostResult, OperationFailure, PlannedOperation, Status
from provision.run_journal import JournalEntry
from provision.version import program_version

CHANGED = PlannedOperation("nginx", "Write /etc/nginx/nginx.conf", changes=True)
DONE = JournalEntry.of(HostResult("one", Status.DONE, (CHANGED,), 3, seconds=1.234), "digest", ())


def test_entry_is_read_as_written() -> None:
    assert JournalEntry.from_line(DONE.to_line()) == DONE
    assert DONE.changed == ("nginx: Write /etc/nginx/nginx.conf",)
    assert DONE.to_line().endswith("\n")


@pytest.mark.parametrize("line", ["", DONE.to_line()[:40], "[]", "{}", '{"time": 1}'])
def test_truncated_line_is_no_entry(line: str) -> None:
    assert JournalEntry.from_line(line) is None


def test_entry_names_the_failure() -> None:
    failure = OperationFailure("base", "Packages curl", ("E: no",))
    assert (
        JournalEntry.of(HostResult("one", Status.FAILED, failure=failure), "d", ()).failure
        == "base: Packages curl"
    )


@pytest.mark.parametrize(
    ("entry", "whole"),
    [
        (DONE, True),
        (replace(DONE, status="failed"), False),
        (replace(DONE, status="interrupted"), False),
        (replace(DONE, components=("base",)), False),
        (replace(DONE, inventory="another"), False),
        (replace(DONE, program="another"), False),
    ],
)
def test_only_a_complete_run_of_the_same_inventory_and_program_counts_for_drift(
    entry: JournalEntry, whole: bool
) -> None:
    assert entry.is_whole("digest") is whole
    assert DONE.program == program_version()
