"""What stands in the way of a host, from what its probe printed."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path

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
        "models_mb": 0, "installed": False, "epoch": EPOCH, "init": "systemd",
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


def test_what_is_installed_needs_less_space_even_without_models() -> None:
    assert findings("one", facts(free_mb=200, installed=True), None, NOW) == ()
    (finding,) = findings("one", facts(free_mb=200), None, NOW)
    assert "200 MB free, 1500 MB needed" in finding
    (finding,) = findings("one", facts(free_mb=30, installed=True), None, NOW)
    assert "30 MB free, 150 MB needed" in finding


def test_the_probe_changes_nothing_and_measures_the_folder_that_there_is(tmp_path: Path) -> None:
    base = tmp_path / "var/lib"
    base.mkdir(parents=True)
    script = PROBE.replace("/var/lib", str(base)).replace("/opt/", f"{tmp_path}/opt/")
    script = script.replace("/etc/nginx", f"{tmp_path}/etc/nginx")

    def examined() -> HostFacts:
        done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
        return HostFacts.parse("here", CommandResult(done.returncode == 0, done.stdout, done.stderr))

    assert examined().free_mb > 0
    assert examined().installed is False
    assert list(base.iterdir()) == []
    (tmp_path / "opt/clawd/releases").mkdir(parents=True)
    assert examined().installed is True
    (tmp_path / "opt/clawd/releases").rmdir()
    (tmp_path / "etc/nginx").mkdir(parents=True)
    (tmp_path / "etc/nginx/nginx.conf").touch()
    assert examined().installed is True


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
