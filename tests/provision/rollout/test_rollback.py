"""Which hosts get their old state back when one of a batch does not come up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from deploys.runtime.last_good import KEEP, PUT_BACK
from inventory.errors import ConnectError
from provision.plan import HostPlan, HostResult, OperationFailure, PlannedOperation, Status
from provision.rollout.rollback import Rollback

CHANGING = (PlannedOperation("runtime", "Service clawd-bot", changes=True),)


class Hosts:
    """A session of hosts with scripted rollbacks."""

    def __init__(
        self,
        *,
        unable: tuple[str, ...] = (),
        untouched: tuple[str, ...] = (),
        lost_after_put_back: bool = False,
    ) -> None:
        self._lost_after_put_back = lost_after_put_back
        self.put_back: list[str] = []
        self.kept: list[str] = []
        self._unable = unable
        self._untouched = untouched

    def run(self, host: str, script: str, *, timeout: float) -> Any:
        assert timeout
        said = "kept" if script == KEEP else ""
        if script == PUT_BACK:
            self.put_back.append(host)
            said = "untouched" if host in self._untouched else ""
        if script == KEEP:
            if self._lost_after_put_back and host in self.put_back:
                raise ConnectError(f"{host}: the connection is lost")
            self.kept.append(host)
        succeeded = not (script == PUT_BACK and host in self._unable)
        return SimpleNamespace(succeeded=succeeded, stdout=said, stderr="no room")


def armed(hosts: Hosts, *names: str) -> Rollback:
    rollback = Rollback(hosts)  # type: ignore[arg-type]
    for name in names:
        rollback.arm(HostPlan(name, CHANGING))
    return rollback


def failed(host: str, component: str = "runtime") -> HostResult:
    return HostResult(host, Status.FAILED, failure=OperationFailure(component, "Service x", ("it died",)))


def test_whole_batch_is_rolled_back_when_one_bot_does_not_start() -> None:
    hosts = Hosts()
    settled = armed(hosts, "bot1", "bot2").settle((failed("bot1"), HostResult("bot2", Status.DONE)))
    assert [result.status for result in settled] == [Status.ROLLED_BACK, Status.ROLLED_BACK]
    assert sorted(hosts.put_back) == ["bot1", "bot2"]
    assert ": the run failed on bot1" in settled[1].message


def test_rollback_of_an_untouched_host_is_reported_as_such() -> None:
    settled = armed(Hosts(untouched=("bot1",)), "bot1").settle((failed("bot1"),))
    assert settled[0].status is Status.ROLLED_BACK
    assert settled[0].message == "the previous release and settings were not changed yet and still serve"


def test_started_bots_are_not_rolled_back_when_another_component_fails() -> None:
    hosts = Hosts()
    settled = armed(hosts, "bot1", "bot2").settle((failed("bot1", "nginx"), HostResult("bot2", Status.DONE)))
    assert [result.status for result in settled] == [Status.FAILED, Status.DONE]
    assert hosts.put_back == []
    assert sorted(hosts.kept) == ["bot1", "bot1", "bot2", "bot2"], "each asked again at the end"


def test_host_without_a_good_state_is_not_rolled_back() -> None:
    hosts = Hosts()
    settled = armed(hosts).settle((failed("bot1"),))
    assert settled == (failed("bot1"),)


def test_interrupted_host_is_not_rolled_back() -> None:
    hosts = Hosts()
    settled = armed(hosts, "bot1", "bot2").settle((failed("bot1"), HostResult("bot2", Status.INTERRUPTED)))
    assert [result.status for result in settled] == [Status.ROLLED_BACK, Status.INTERRUPTED]


def test_host_lost_after_its_rollback_counts_as_rolled_back() -> None:
    hosts = Hosts(lost_after_put_back=True)
    settled = armed(hosts, "bot1", "bot2").settle((failed("bot1"), HostResult("bot2", Status.DONE)))
    assert [result.status for result in settled] == [Status.ROLLED_BACK, Status.ROLLED_BACK]
    assert all("the connection is lost" in result.message for result in settled)


@pytest.mark.parametrize("unable", ["bot1", "bot2"])
def test_failed_rollback_is_reported(unable: str) -> None:
    hosts = Hosts(unable=(unable,))
    settled = armed(hosts, "bot1", "bot2").settle((failed("bot1"), HostResult("bot2", Status.DONE)))
    (result,) = (result for result in settled if result.host == unable)
    assert result.status is Status.FAILED
    assert "the rollback failed: no room" in result.message
