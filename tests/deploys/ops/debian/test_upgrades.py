"""Updates by a stand-in for apt, whose lines are those of apt 2.6 and 3.0."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from deploys.ops.debian import upgrades
from deploys.ops.debian.upgrades import LONGEST_DAYS, Pending, PendingFact, UpgradeScope, current, reason
from tests.deploys.harness import Machine, Run

SIMULATED = """\
Reading package lists...
Inst libssl3 [3.0.16-1~deb12u1] (3.0.17-1~deb12u2 Debian-Security:12/oldstable-security [amd64]) []
Inst openssl [3.0.16-1] (3.0.17-1~deb12u2 Debian:12/oldstable, Debian-Security:12/oldstable-security [amd64])
Inst base-files [12.4+deb12u11] (12.4+deb12u12 Debian:12.12/oldstable [amd64])
Inst linux-image-6.1.0-40-amd64 (6.1.153-1 Debian-Security:12/oldstable-security [amd64])
Inst tzdata [2025a-0] (2025b-0 Ubuntu:24.04/noble-updates [all])
Inst curl [8.5.0-2] (8.5.0-3 Ubuntu:24.04/noble-updates, Ubuntu:24.04/noble-security [amd64])
Inst elasticsearch [8.19.2] (9.0.1 elastic:stable [amd64])
Inst git [1:2.39.5-0] (1:2.47.1-1~bpo12+1 Debian Backports:12/bookworm-backports [amd64])
Conf libssl3 (3.0.17-1~deb12u2 Debian-Security:12/oldstable-security [amd64])
"""
SECURITY = ("libssl3=3.0.17-1~deb12u2", "openssl=3.0.17-1~deb12u2", "curl=8.5.0-3")
ALL = (*SECURITY[:2], "base-files=12.4+deb12u12", "tzdata=2025b-0", SECURITY[2])
APT_GET = """#!/bin/sh
cd "$(dirname "$0")"
case "$*" in
    *" -s "*|"-s "*)
        echo >> simulations
        [ ! -f mute ] || { echo "E: Unmet dependencies." >&2; exit 100; }
        [ -f read ] && [ ! -f upgraded ] && cat simulated
        exit 0 ;;
    *" update"*) echo "$*" >> asked; [ ! -f unreachable ] || exit 100; touch read ;;
    *" install "*) echo "$*" >> asked; [ ! -f broken ] || exit 100; touch upgraded ;;
esac
"""


class Apt:
    """A host's package manager: its index has been `read`, or not."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder / "bin"
        self.folder.mkdir()
        self.record, self.daily = folder / "state" / "upgraded", folder / "daily"
        (self.folder / "simulated").write_text(SIMULATED)
        programs = {
            "apt-get": APT_GET,
            "apt-mark": '#!/bin/sh\necho "$*" >> "${0%/*}/marked"; echo libssl3\n',
        }
        for name, text in programs.items():
            (self.folder / name).write_text(text)
            (self.folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{self.folder}:/usr/bin:/bin")
        monkeypatch.setattr(upgrades, "RECORD", str(self.record))
        monkeypatch.setattr(upgrades, "DAILY", str(self.daily))
        monkeypatch.setattr(upgrades, "KNOWN", str(folder / "state" / "pending"))
        # Of what apt keeps, all that the stand-in has: whether it has read an index and upgraded.
        monkeypatch.setattr(upgrades, "INPUTS", f"{self.folder}/read {self.folder}/upgraded")

    def says(self, name: str) -> None:
        (self.folder / name).touch()

    def current_days_ago(self, days: float, *, read_since: float | None = None) -> None:
        self.record.parent.mkdir(exist_ok=True)
        for path, age in ((self.record, days), (self.daily, read_since)):
            if age is not None:
                path.touch()
                os.utime(path, (time.time() - age * 86400,) * 2)

    def run(self, updates: UpgradeScope = "security") -> Run:
        return Machine().run(lambda: current(updates))

    def pending(self, updates: UpgradeScope = "security") -> tuple[str, ...]:
        """What the host says it lacks."""
        return self.look(updates).packages

    def look(self, updates: UpgradeScope = "security") -> Pending:
        shown = subprocess.run(
            ["sh", "-c", PendingFact().command(updates)], capture_output=True, text=True, check=True
        )
        return PendingFact().process(shown.stdout.splitlines())

    def asked(self, name: str = "asked") -> list[str]:
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Apt:
    return Apt(tmp_path, monkeypatch)


@pytest.mark.parametrize(("updates", "installed"), [("security", SECURITY), ("all", ALL)])
def test_new_host_is_upgraded_once(apt: Apt, updates: UpgradeScope, installed: tuple[str, ...]) -> None:
    run = apt.run(updates)
    assert run.succeeded, run.output
    assert run.changes[0].diff == ("bring up to date, with a fresh index",)
    update, install = apt.asked()
    assert update.endswith(" update")
    assert tuple(install.split(" -- ")[1].split()) == installed
    assert " --only-upgrade " in install
    assert apt.asked("marked")[1].endswith(" auto libssl3"), "packages marked as automatic stay so"
    second = apt.run(updates)
    assert not second.predicted
    assert len(apt.asked()) == 2


def test_plan_counts_and_names_pending_updates(apt: Apt) -> None:
    apt.current_days_ago(1)
    apt.says("read")
    (change,) = apt.run().changes
    assert change.diff == (f"upgrade 3 packages: {' '.join(SECURITY)}",)


def test_pending_updates_are_read_again_when_apt_files_change(apt: Apt) -> None:
    apt.current_days_ago(1)
    apt.says("read")
    first = apt.pending()
    assert apt.pending() == first == SECURITY
    assert len(apt.asked("simulations")) == 1
    assert apt.pending("all") == ALL, "another question"
    apt.says("upgraded")
    assert apt.pending() == ()
    assert apt.pending() == ()
    assert len(apt.asked("simulations")) == 3


def test_failed_apt_query_is_not_cached(apt: Apt) -> None:
    apt.current_days_ago(1)
    apt.says("read")
    apt.says("mute")
    assert apt.look() == Pending(days=1, known=False)
    (apt.folder / "mute").unlink()
    assert apt.pending() == SECURITY


def test_upgrade_fails_when_apt_cannot_list_updates(apt: Apt) -> None:
    """As one whose packages lack what they depend on: it would take no security update, either."""
    apt.current_days_ago(1)
    apt.says("mute")
    run = apt.run()
    assert run.changes[0].diff == ("read the mirrors' index: apt cannot say which updates there are",)
    assert not run.succeeded
    assert "Unmet dependencies" in run.output
    assert len(apt.asked()) == 1, "nothing is installed"


def test_cached_answer_of_another_version_or_truncated_is_ignored(apt: Apt) -> None:
    apt.current_days_ago(1)
    apt.says("read")
    assert apt.pending() == SECURITY
    kept = apt.record.with_name("pending")
    for text in ("", "x", kept.read_text().replace("  -", "", 1)):
        kept.write_text(text)
        assert apt.pending() == SECURITY
    assert len(apt.asked("simulations")) == 4
    assert [path.name for path in kept.parent.iterdir() if path.name.startswith("pending")] == ["pending"]


def test_outdated_apt_index_is_updated(apt: Apt) -> None:
    apt.current_days_ago(LONGEST_DAYS + 1.5)
    run = apt.run()
    assert run.changes[0].diff == (
        f"read the mirrors' index, which is {LONGEST_DAYS + 1} days old, and install what it has",
    )
    assert run.succeeded
    assert not apt.run().predicted


def test_index_updated_by_the_distribution_timer_is_current(apt: Apt) -> None:
    apt.current_days_ago(300, read_since=0.5)
    assert not apt.run().predicted


@pytest.mark.parametrize("trouble", ["unreachable", "broken"])
def test_failed_upgrade_is_tried_again(apt: Apt, trouble: str) -> None:
    apt.says(trouble)
    assert not apt.run().succeeded
    assert not apt.record.exists()
    (apt.folder / trouble).unlink()
    assert apt.run().succeeded


def test_reason_lists_pending_updates_and_unknown_state() -> None:
    assert reason(Pending()) == ()
    assert reason(Pending(days=LONGEST_DAYS)) == ()
    assert len(reason(Pending(known=False))) == 1
    assert reason(Pending(("a=1",))) == ("upgrade 1 package: a=1",)
    assert len(reason(Pending(("a=1", "b=2"), None))) == 2
