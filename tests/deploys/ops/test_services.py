"""Units are converged against a stand-in for systemctl that keeps its state in files."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from deploys.ops import services
from deploys.ops.facts import UnitFact, UnitState
from deploys.ops.paths import files
from deploys.ops.services import Service, action_for, stamp_of
from tests.deploys.harness import OWN, Machine, Run

pytestmark = pytest.mark.slow

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
                if [ -f broken ] || { [ -f refuses ] && sh refuses; }; then
                    echo failed > ActiveState
                    echo "Job for $last failed" >&2
                    exit 1
                fi
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
        return Machine().run(
            lambda: services.converge(Service("app", **{"inputs": "1", "timeout": 1, **arguments}))
        )

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


def test_changed_inputs_restart_or_reload_the_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unit = Unit(tmp_path, monkeypatch)
    unit.converge()
    assert unit.asked[-1] == "restart app.service"
    assert unit.converge(inputs="2", reload=True).changed
    assert unit.asked == ["daemon-reload", "reload app.service"]
    unit.set("ActiveState", "failed")
    assert unit.converge(inputs="2", reload=True).changed
    assert unit.asked == ["daemon-reload", "reset-failed app.service", "restart app.service"]


def test_disabled_unit_is_enabled_without_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unit = Unit(tmp_path, monkeypatch)
    unit.converge()
    unit.set("UnitFileState", "disabled")
    assert unit.asked
    assert unit.converge().changes[0].diff == ("enable (it is disabled)",)
    assert unit.asked == ["daemon-reload", "enable app.service"]


def test_watched_file_is_predicted_and_survives_an_interrupted_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = Unit(tmp_path, monkeypatch)
    config = tmp_path / "config"

    def write(text: str) -> object:
        return files.put(str(config), text, **OWN)

    def converge() -> object:
        return services.converge(Service("app", watch=(str(config),), timeout=1))

    both = Machine().run(lambda: (write("1"), converge()))
    assert (both.predictions, both.results) == ((True, True), (True, True))
    Machine().run(lambda: write("2"))  # and the run ends before the unit is restarted
    assert unit.asked
    later = Machine().run(lambda: (write("2"), converge()))
    assert (later.predictions, later.results) == ((False, True), (False, True))
    assert unit.asked[-1] == "restart app.service"
    assert not Machine().run(lambda: (write("2"), converge())).predicted


def test_failed_start_shows_the_journal_and_is_retried_next_run(
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


def test_converge_waits_for_readiness_and_reports_the_probe_output(
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


def test_probe_gets_the_state_before_the_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unit = Unit(tmp_path, monkeypatch)
    unit.converge()
    probed = tmp_path / "probed"
    before = f"cat {unit.folder}/asked >{tmp_path}/then; echo well; echo aside >&2"
    ready = f'echo "$before" >> {probed}; [ "$before" = well ]'
    assert unit.asked
    assert unit.converge(inputs="2", before=before, ready=ready).succeeded
    assert probed.read_text() == "well\n"
    assert (tmp_path / "then").read_text() == "daemon-reload\n", "reloaded before the restart"
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


class Configured:
    """The unit with two files that it reads; it does not start when one of them has the word `bad` in it.

    The second is only there when it is declared.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.unit = Unit(folder, monkeypatch)
        self.one, self.two = folder / "etc" / "one", folder / "etc" / "two"
        self.one.parent.mkdir()
        self.unit.set("refuses", f"grep -qs bad {self.one} {self.two}")
        self.good = folder / "state" / "app.service.good"

    def apply(self, one: str, two: str | None = None, **arguments: Any) -> Run:
        def operations() -> None:
            files.put(str(self.one), one, **{**OWN, "mode": "0640"})
            files.absent(str(self.two)) if two is None else files.put(str(self.two), two, **OWN)
            watch = (str(self.one), str(self.two))
            services.converge(Service("app", **{"watch": watch, "timeout": 1, **arguments}))

        return Machine().run(operations)

    @property
    def files(self) -> tuple[str | None, str | None]:
        one, two = (path.read_text() if path.exists() else None for path in (self.one, self.two))
        return one, two


@pytest.mark.parametrize("reload", [False, True])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (("fine", None), ("bad", None)),
        (("fine", None), ("fine", "bad")),
        (("fine", None), ("bad", "bad")),
        (("fine", "well"), ("bad", None)),
    ],
)
def test_files_that_stop_the_start_are_rolled_back(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    old: tuple[str, str | None],
    new: tuple[str, str | None],
    reload: bool,
) -> None:
    host = Configured(tmp_path, monkeypatch)
    assert host.apply(*old, reload=reload).succeeded
    host.unit.asked  # noqa: B018 - what was asked until now is forgotten
    run = host.apply(*new, reload=reload)
    assert not run.succeeded
    assert "app.service: does not " in run.output
    assert "last words of the unit" in run.output
    assert run.output.splitlines()[-1] == (
        "app.service: the previous files were restored, and it runs with them"
    )
    assert host.files == old
    assert stat.S_IMODE(host.one.stat().st_mode) == 0o640
    assert host.unit.asked[-1] == "restart app.service", "what has failed cannot be reloaded"
    assert not host.apply(*old, reload=reload).predicted, "as if nothing had been tried"
    assert host.apply(*new, reload=reload).predictions[-1]


def test_kept_files_are_readable_only_by_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Configured(tmp_path, monkeypatch)
    host.apply("fine")
    assert stat.S_IMODE(host.good.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in host.good.iterdir()} == {0o600}


def test_run_interrupted_before_the_start_keeps_the_good_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Configured(tmp_path, monkeypatch)
    host.apply("fine")
    host.one.write_text("bad")
    assert not host.apply("bad").succeeded
    assert host.files == ("fine", None)


KILLER = """#!/bin/sh
# Runs the program of this name, or kills the script that called it, when it is its turn.
case "$*" in *LoadState,ActiveState*) exec {program} "$@" ;; esac  # while the run is planned
turn=$(($(cat {folder}/turn) + 1))
echo $turn > {folder}/turn
[ $turn != "$(cat {folder}/kill-at)" ] || kill -9 $PPID
exec {program} "$@"
"""
CALLED = ("mv", "rm", "mkdir", "tar", "cp", "systemctl")
MOST_CALLS = 30


def test_start_killed_at_any_command_leaves_a_state_to_roll_back_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run that is killed brings a good file, the next one a bad one: a good one has to be live again."""
    host = Configured(tmp_path, monkeypatch)
    programs = tmp_path / "killing"
    programs.mkdir()
    for name in CALLED:
        own = host.unit.folder / name
        program = own if own.exists() else Path("/bin") / name
        (programs / name).write_text(KILLER.format(folder=programs, program=program))
        (programs / name).chmod(0o755)
    path = os.environ["PATH"]
    outcomes = set()
    for kill_at in range(1, MOST_CALLS):
        assert host.apply("fine").succeeded
        (programs / "turn").write_text("0\n")
        (programs / "kill-at").write_text(f"{kill_at}\n")
        host.one.write_text("better")
        monkeypatch.setenv("PATH", f"{programs}:{path}")
        killed = (
            not Machine()
            .run(lambda: services.converge(Service("app", watch=(str(host.one), str(host.two)), timeout=1)))
            .succeeded
        )
        calls = int((programs / "turn").read_text())
        monkeypatch.setenv("PATH", path)
        assert not host.apply("bad").succeeded
        assert host.files in (("fine", None), ("better", None)), f"killed at {kill_at}"
        assert (host.unit.folder / "ActiveState").read_text() == "active\n", f"killed at {kill_at}"
        outcomes.add((killed, host.files[0]))
        if kill_at > calls:
            break
    assert {killed for killed, _ in outcomes} == {True, False}
    assert {live for _, live in outcomes} == {"fine", "better"}


def test_failed_first_start_runs_undo_and_restores_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Configured(tmp_path, monkeypatch)
    undone = tmp_path / "undone"
    run = host.apply("bad", undo=f"echo >> {undone}; echo as before us")
    assert not run.succeeded
    assert run.output.splitlines()[-1] == "as before us"
    assert host.files == ("bad", None)
    assert host.apply("fine").succeeded
    assert not host.apply("bad", undo=f"echo >> {undone}").succeeded
    assert undone.read_text() == "\n", "that is only for the first start"
    assert host.files == ("fine", None)


def test_unchanged_files_are_not_rolled_back_when_the_start_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Configured(tmp_path, monkeypatch)
    host.apply("fine")
    host.unit.set("broken", "")
    assert host.unit.asked
    run = host.apply("fine", inputs="2")
    assert not run.succeeded
    assert "restored" not in run.output
    assert [word.split()[0] for word in host.unit.asked].count("restart") == 1
    run = host.apply("new")
    assert run.output.splitlines()[-1] == (
        "app.service: the previous files were restored, but it does not start with them either"
    )
    assert host.files == ("fine", None)
    (host.unit.folder / "broken").unlink()
    assert host.apply("fine").predictions == (False, False, True)


def test_rolled_back_files_are_checked_with_their_own_probe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Configured(tmp_path, monkeypatch)
    host.apply("fine", ready=f"grep -q fine {host.one}")
    run = host.apply("fair", ready=f"grep -q better {host.one}")
    assert not run.succeeded
    assert "is not ready after 1 seconds (active)" in run.output
    assert run.output.splitlines()[-1].endswith("restored, and it runs with them")
    assert host.files == ("fine", None)


def test_file_behind_a_link_is_not_rolled_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate and its key, say, which were renewed on the host in the meantime."""
    host = Configured(tmp_path, monkeypatch)
    (tmp_path / "2").mkdir()
    for number in ("1", "2"):
        (tmp_path / number).mkdir(exist_ok=True)
        (tmp_path / number / "pem").write_text(number)
    link = tmp_path / "current"
    link.symlink_to("1")
    watch = [str(host.one), str(link / "pem")]
    assert host.apply("fine", watch=watch).succeeded
    link.unlink()
    link.symlink_to("2")
    assert not host.apply("bad", watch=watch).succeeded
    assert host.files == ("fine", None)
    assert (link / "pem").read_text() == "2"
    assert (tmp_path / "1" / "pem").read_text() == "1"


def test_files_with_their_own_rollback_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Configured(tmp_path, monkeypatch)
    host.apply("fine", keep=False)
    assert not host.good.exists()
    assert not host.apply("bad", keep=False).succeeded
    assert host.files == ("bad", None)


def test_forgotten_deletes_kept_files_and_stamp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Configured(tmp_path, monkeypatch)
    host.apply("fine")
    forget = lambda: services.forgotten("app.service")  # noqa: E731
    assert Machine().run(forget).changed
    assert list(host.good.parent.iterdir()) == []
    assert not Machine().run(forget).predicted


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
def test_action_for_returns_restart_reload_or_start(
    state: UnitState, new_files: bool, reload: bool, expected: str | None
) -> None:
    action = action_for(state, "s", new_files=new_files, reload=reload)
    assert (action and action.split()[0]) == expected


def test_unit_fact_without_systemd_is_a_missing_unit() -> None:
    assert UnitFact().process([""]) == UnitState()
