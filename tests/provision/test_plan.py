"""Plans and results as values."""

from __future__ import annotations

import json

import pytest

from provision.plan import (
    FileChange,
    HostPlan,
    HostResult,
    OperationFailure,
    Plan,
    PlannedOperation,
    Result,
    Status,
    exit_code,
)

SAME = PlannedOperation("base", "Directory /etc/clawd", changes=False)
FILE = PlannedOperation("nginx", "File nginx.conf", changes=True, files=(FileChange("/etc/n", ("+a",)),))


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        ([], 0),
        ([Status.DONE, Status.DONE], 0),
        ([Status.DONE, Status.FAILED], 1),
        ([Status.FAILED], 1),
        ([Status.FAILED, Status.ROLLED_BACK], 4),
        ([Status.ROLLED_BACK, Status.INTERRUPTED, Status.FAILED], 130),
    ],
)
def test_most_severe_status_decides_the_exit_code(statuses: list[Status], code: int) -> None:
    assert exit_code(statuses) == code


def test_plan_counts_and_shows_only_changes() -> None:
    plan = Plan((HostPlan("one", (SAME, FILE)), HostPlan("two", (SAME,)), HostPlan("three", error="no")))
    assert plan.changes == 1
    assert [host.host for host in plan.errors] == ["three"]
    document = json.loads(json.dumps(plan.to_json()))
    assert document["hosts"][0]["unchanged"] == 1
    assert document["hosts"][0]["operations"][0]["files"][0]["diff"] == ["+a"]
    with pytest.raises(KeyError):
        plan.for_host("four")


def test_result_json_contains_the_failure() -> None:
    failure = OperationFailure("nginx", "File nginx.conf", ("unknown directive",), "fix the template")
    result = Result((HostResult("one", Status.FAILED, (FILE,), 3, failure),))
    assert not result.succeeded
    assert result.changed == 1
    host = json.loads(json.dumps(result.to_json()))["hosts"][0]
    assert host["status"] == "failed"
    assert host["failure"]["output"] == ["unknown directive"]
    assert "\nhint: fix the template" in str(failure)
