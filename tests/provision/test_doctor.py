"""What stands in the way of a host, from what its probe printed."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime

import pytest

from deploys.supplies import ModelFile
from inventory.errors import HostError
from provision.doctor import PROBE, HostFacts, findings
from provision.session import CommandResult

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
EPOCH = int(NOW.timestamp())
MODEL = ModelFile("m.gguf", "0" * 64, 3 * 2**30)


def facts(**changed: object) -> HostFacts:
    whole = {
        "id": "debian", "version": "12", "uid": 0, "cores": 2, "memory_mb": 3900, "free_mb": 20000,
        "models_mb": 0, "epoch": EPOCH, "init": "systemd",
    }  # fmt: skip
    return HostFacts(**{**whole, **changed})  # type: ignore[arg-type]


def test_a_fit_host_has_no_findings() -> None:
    assert findings("one", facts(), MODEL, NOW) == ()


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"version": "11"}, "debian 11 is not supported; supported are debian 12, debian 13"),
        ({"uid": 1000}, "passwordless sudo"),
        ({"init": "tini"}, "run by tini, not systemd"),
        ({"free_mb": 4000}, "4000 MB free, 4572 MB needed"),
        ({"epoch": EPOCH + 3600}, "clock is 3600 s ahead"),
        ({"epoch": EPOCH - 500}, "clock is 500 s behind"),
    ],
)
def test_what_is_wrong_is_said_with_its_numbers(changed: dict[str, object], says: str) -> None:
    (finding,) = findings("one", facts(**changed), MODEL, NOW)
    assert finding.startswith("one: ")
    assert says in finding


def test_all_findings_at_once() -> None:
    assert len(findings("one", facts(version="10", free_mb=1, epoch=0), MODEL, NOW)) == 3


def test_a_model_that_is_there_needs_no_space() -> None:
    assert findings("one", facts(free_mb=500, models_mb=3 * 1024), MODEL, NOW) == ()


def test_the_probe_runs_here_and_is_understood() -> None:
    done = subprocess.run(["sh", "-c", PROBE], capture_output=True, text=True, check=False)
    here = HostFacts.parse("here", CommandResult(done.returncode == 0, done.stdout, done.stderr))
    assert here.cores > 0
    assert here.memory_mb > 100
    assert abs(here.epoch - datetime.now(UTC).timestamp()) < 60


def test_a_refused_sudo_is_told_as_such() -> None:
    with pytest.raises(HostError, match="sudo refused"):
        HostFacts.parse("one", CommandResult(False, "", "sudo: a password is required"))


def test_nonsense_is_an_error_with_what_was_printed() -> None:
    with pytest.raises(HostError, match="could not be examined: BusyBox"):
        HostFacts.parse("one", CommandResult(True, "BusyBox", ""))
