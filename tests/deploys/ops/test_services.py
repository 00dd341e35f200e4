"""Units are converged against a stand-in for systemctl that keeps its state in files."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest

from deploys.ops import files, services
from deploys.ops.facts import UnitFact, UnitState
from deploys.ops.services import action_for, stamp_of
from tests.deploys.harness import OWN, Machine, Run

SYSTEMCTL = """#!/bin/sh
# State of the one unit in files of this folder; what was asked is appended to `asked`.
cd "$(dirname "$0")"
for last; do :; done
case $1 in
    show)
        case "$*" in
            *--value*) cat "$3" 2>/dev/null ;;
            *) for key in LoadState ActiveState UnitFileState NeedDaemonReload; do
                echo "$key=$(cat $key)"
            done ;;
        esac ;;
    *)
        echo "$*" >> asked
        case $1 in
            daemon-reload) echo no > NeedDaemonReload; echo loaded > LoadState ;;
            enable) echo enabled > UnitFileState ;;
            restart|reload)
                if [ -f broken ]; then echo "Job for $last failed" >&2; exit 1; fi
                cat after > ActiveState ;;
        esac ;;
esac
"""


class Unit:
    """A host with one unit, and the folder where its stamp lies."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, **state: str) -> None:
        self.folder = folder / "bin"
        self.folder.mkdir()
        defaults = {
            "LoadState": "loaded",
            "ActiveState": "active",
            "UnitFileState": "enabled",
            "NeedDaemonReload": "no",
        }
        for name, text in {**defaults, "after": "active", **state}.items():
            self.set(name, text)
        self._program("systemctl", SYSTEMCTL)
        self._program("journalctl", '#!/bin/sh\necho "last words of the unit"\n')
        monkeypatch.setenv("PATH", f"{self.folder}:/usr/bin:/bin")
        monkeypatch.setattr(services, "STAMPS", str(folder / "state"))
        self.stamp = folder / "state" / "app.service.stamp"

    def set(self, name: str, text: str) -> None:
        (self.folder / name).write_text(f"{text}\n")

    def converge(self, **arguments: Any) -> Run:
        return Machine().run(lambda: services.converge("app", **{"inputs": "1", "timeout": 1, **arguments}))

    @property
    def asked(self) -> list[str]:
        path = self.folder / "asked"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines

    def _program(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)
        (self.folder / name).chmod(0o755)


def test_new_unit_is_loaded_enabled_started_and_stamped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = Unit(tmp_path, monkeypatch, LoadState="not-found", ActiveState="inactive", UnitFileState="")
    run = unit.converge()
    assert run.succeeded, run.output
    assert run.changes[0].path == "app.service"
    assert run.changes[0].diff == ("start (it is inactive)",)
    assert unit.asked == [
        "daemon-reload",
        "enable app.service",
        "reset-failed app.service",
        "restart app.service",
    ]
    assert unit.stamp.read_text().strip() == stamp_of("1")
    assert stat.S_IMODE(unit.stamp.parent.stat().st_mode) == 0o700
    assert not unit.converge().predicted
    assert unit.asked == []


def test_other_inputs_restart_or_reload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unit = Unit(tmp_path, monkeypatch)
    unit.converge()
    assert unit.asked[-1] == "restart app.service"
    assert unit.converge(inputs="2", reload=True).changed
    assert unit.asked == ["daemon-reload", "reload app.service"]
    unit.set("ActiveState", "failed")
    assert unit.converge(inputs="2", reload=True).changed
    assert unit.asked == ["daemon-reload", "reset-failed app.service", "restart app.service"]


def test_only_not_enabled_is_not_restarted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unit = Unit(tmp_path, monkeypatch)
    unit.converge()
    unit.set("UnitFileState", "disabled")
    assert unit.asked
    assert unit.converge().changes[0].diff == ("enable (it is disabled)",)
    assert unit.asked == ["daemon-reload", "enable app.service"]


def test_changed_operation_is_predicted_and_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unit = Unit(tmp_path, monkeypatch)
    config = tmp_path / "config"

    def operations() -> None:
        put = files.put(str(config), "x", **OWN)
        services.converge("app", inputs="1", changed=[put], timeout=1)

    unit.converge()
    assert unit.asked
    assert Machine().run(operations, execute=False).predictions == (True, True)
    assert Machine().run(operations).results == (True, True)
    assert unit.asked == ["daemon-reload", "reset-failed app.service", "restart app.service"]
    assert Machine().run(operations).predictions == (False, False)


def test_watched_file_is_predicted_and_survives_an_interrupted_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = Unit(tmp_path, monkeypatch)
    config = tmp_path / "config"

    def write(text: str) -> object:
        return files.put(str(config), text, **OWN)

    def converge() -> object:
        return services.converge("app", inputs="", watch=[str(config)], timeout=1)

    both = Machine().run(lambda: (write("1"), converge()))
    assert (both.predictions, both.results) == ((True, True), (True, True))
    Machine().run(lambda: write("2"))  # and the run ends before the unit is restarted
    assert unit.asked
    later = Machine().run(lambda: (write("2"), converge()))
    assert (later.predictions, later.results) == ((False, True), (False, True))
    assert unit.asked[-1] == "restart app.service"
    assert not Machine().run(lambda: (write("2"), converge())).predicted


def test_failing_start_shows_the_journal_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = Unit(tmp_path, monkeypatch)
    unit.converge()
    unit.set("broken", "")
    run = unit.converge(inputs="2")
    assert not run.succeeded
    assert "Job for app.service failed" in run.output
    assert "last words of the unit" in run.output
    (unit.folder / "broken").unlink()
    assert unit.converge(inputs="1").predicted, "an attempt that failed may have changed what runs"


def test_waits_until_ready_and_says_what_the_probe_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = Unit(tmp_path, monkeypatch)
    run = unit.converge(ready="echo 502 bad gateway; false")
    assert not run.succeeded
    assert "502 bad gateway" in run.output
    assert "not ready after 1 seconds (active)" in run.output
    assert not unit.stamp.exists()
    tries = tmp_path / "tries"
    third_time = f'echo >> {tries}; [ "$(wc -l < {tries})" -ge 3 ]'
    assert unit.converge(ready=third_time, timeout=10).succeeded
    assert tries.read_text() == "\n\n\n"


def test_the_probe_knows_how_things_were_before_the_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = Unit(tmp_path, monkeypatch)
    unit.converge()
    probed = tmp_path / "probed"
    before = f"cat {unit.folder}/asked >{tmp_path}/then; echo well; echo aside >&2"
    ready = f'echo "$before" >> {probed}; [ "$before" = well ]'
    assert unit.asked
    assert unit.converge(inputs="2", before=before, ready=ready).succeeded
    assert probed.read_text() == "well\n"
    assert (tmp_path / "then").read_text() == "daemon-reload\n", "told ahead of the restart"
    unit.set("UnitFileState", "disabled")
    assert unit.converge(inputs="2", before=before, ready=f'[ -z "$before" ] && echo >> {probed}').succeeded
    assert probed.read_text() == "well\n\n", "nothing stops, so nothing is asked before"


def test_unit_that_dies_after_its_start_fails_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = Unit(tmp_path, monkeypatch, ActiveState="inactive", after="failed")
    run = unit.converge(timeout=60)
    assert not run.succeeded
    assert "fails after its start" in run.output


@pytest.mark.parametrize(
    ("state", "new_files", "reload", "expected"),
    [
        (UnitState(active="active", enabled="enabled", stamp="s"), False, False, None),
        (UnitState(active="active", enabled="static", stamp="s"), False, False, None),
        (UnitState(active="active", enabled="enabled", stamp="s", stale=True), False, False, "restart"),
        (UnitState(active="active", enabled="enabled", stamp="other"), False, True, "reload"),
        (UnitState(active="active", enabled="enabled", stamp="s"), True, False, "restart"),
        (UnitState(active="activating", enabled="enabled", stamp="s"), False, True, "start"),
        (UnitState(), False, False, "start"),
        (UnitState(active="active", enabled="", stamp="s"), False, False, "enable"),
    ],
)
def test_action(state: UnitState, new_files: bool, reload: bool, expected: str | None) -> None:
    action = action_for(state, "s", new_files=new_files, reload=reload)
    assert (action and action.split()[0]) == expected


def test_fact_without_systemd_is_a_unit_that_is_not_there() -> None:
    assert UnitFact().process([""]) == UnitState()
