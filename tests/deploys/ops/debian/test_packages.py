"""Packages: what is asked for, given what is there."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from deploys.ops.debian import packages
from deploys.ops.facts import PackagesFact
from tests.deploys.harness import Machine

APT = """#!/bin/sh
echo "$DEBIAN_FRONTEND $*" >> "$(dirname "$0")/asked"
case "$*" in *update*) touch "$(dirname "$0")/updated" ;; *) [ -e "$(dirname "$0")/updated" ] ;; esac
"""


# dpkg reports to its status logger what it does, before it fails.
DPKG_FAILS = """#!/bin/sh
echo "$*" >> "$(dirname "$0")/asked"
case "$*" in *update*) exit 0 ;; esac
for word in "$@"; do
    case $word in *--status-logger=*) echo "processing: install: a" | sh -c "${word#*logger=}" ;; esac
done
exit 100
"""


REMOVES = """#!/bin/sh
echo "$*" >> "$(dirname "$0")/asked"
case "$*" in *--no-remove*) exit 100 ;; *" -s "*) echo "Remv theirs [1]"; echo "Remv ours [1]" ;; esac
"""


def play_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Have the script `text` run as apt-get."""
    apt = tmp_path / "apt-get"
    apt.write_text(text)
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")


def test_installed_packages_are_no_change() -> None:
    machine = Machine(facts={PackagesFact: frozenset({"a", "b", "c"})})
    assert not machine.run(lambda: packages.installed("b", "a")).predicted


def test_apt_index_is_updated_when_old_or_insufficient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play_apt(tmp_path, monkeypatch, APT)
    data = {"apt_options": "-o Acquire::http::Proxy=http://127.0.0.1:3128"}
    machine = Machine(data, facts={PackagesFact: frozenset({"a"})})
    run = machine.run(lambda: packages.installed("a", "b", "c"))
    assert run.succeeded, run.output
    assert run.changes[0].diff == ("install b c",)
    *_, update, install = (tmp_path / "asked").read_text().splitlines()
    assert "update" in update
    assert install.startswith("noninteractive ")
    assert "--no-install-recommends --allow-downgrades " in install
    assert install.endswith(" --no-remove -- b c")
    for line in (update, install):
        assert "-o DPkg::Lock::Timeout=120" in line
        assert "-o Acquire::http::Proxy=http://127.0.0.1:3128" in line


def test_failed_configuration_of_a_package_is_not_retried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Building a kernel module takes minutes, and fails again."""
    play_apt(tmp_path, monkeypatch, DPKG_FAILS)
    run = Machine(facts={PackagesFact: frozenset()}).run(lambda: packages.installed("a"))
    assert not run.succeeded
    asked = (tmp_path / "asked").read_text().splitlines()
    assert len([line for line in asked if line.endswith(" -- a")]) == 1


@pytest.mark.parametrize(
    ("brought", "succeeds"), [(("ours", "theirs"), True), (("ours",), False), ((), False)]
)
def test_installation_removes_only_packages_of_components(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, brought: tuple[str, ...], succeeds: bool
) -> None:
    apt = tmp_path / "apt-get"
    apt.write_text(REMOVES)
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(packages, "RECORDS", str(tmp_path / "records"))
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "other").write_text("".join(f"brought {name}\n" for name in brought))
    machine = Machine(facts={PackagesFact: frozenset()})
    run = machine.run(lambda: packages.installed("a", component="some"))
    assert run.succeeded is succeeds
    asked = (tmp_path / "asked").read_text().splitlines()
    allowed = [
        line for line in asked if line.endswith(" -- a") and "--no-remove" not in line and " -s " not in line
    ]
    assert len(allowed) == succeeds
    assert ("installing a would remove" in run.output) is not succeeds
    assert len([line for line in asked if "update" in line]) <= 1


def test_installation_is_refused_when_it_cannot_be_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a component brought must be known, so that it can be removed again."""
    play_apt(tmp_path, monkeypatch, APT)
    monkeypatch.setattr(packages, "RECORDS", str(tmp_path / "records"))
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "some.new").symlink_to("/dev/full")
    machine = Machine(facts={PackagesFact: frozenset()})
    run = machine.run(lambda: packages.installed("a", component="some"))
    assert not run.succeeded
    assert not (tmp_path / "asked").exists()


def test_fact_excludes_half_installed_packages() -> None:
    lines = ["bash installed 5.2", "nginx config-files 1", "curl half-configured 8", "removed"]
    assert PackagesFact().process(lines) == {"bash", "bash=5.2"}


def test_packages_fact_reads_this_machine() -> None:
    from pyinfra import host

    found = []
    Machine().run(lambda: found.append(host.get_fact(PackagesFact, packages=("dpkg", "no-such-package"))))
    assert {name.partition("=")[0] for name in found[0]} == {"dpkg"}


def test_needed_packages_among_many_are_found_with_few_apt_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # `kept` needs p41, which needs p42.
    programs = {
        "apt-get": f"""echo "$*" >> {tmp_path}/asked
for name in "$@"; do
    case $name in p*) echo "Remv $name [1]" ;; esac
    case $name in p41) echo "Remv kept [1]" ;; p42) echo "Remv p41 [1]"; echo "Remv kept [1]" ;; esac
done""",
        "dpkg-query": "echo installed",
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    names = [f"p{number}" for number in range(10, 90)]
    records = tmp_path / "records"
    records.mkdir()
    (records / "some").write_text("".join(f"brought {name}\n" for name in names))
    monkeypatch.setattr(packages, "RECORDS", str(records))
    fact = packages.BroughtFact()
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    words = ["sh", "-c", fact.command("some")]
    completed = subprocess.run(words, capture_output=True, text=True, env=environment, check=True, timeout=60)
    assert fact.process(completed.stdout.splitlines()) == frozenset(names) - {"p41", "p42"}
    assert len((tmp_path / "asked").read_text().splitlines()) < 30
