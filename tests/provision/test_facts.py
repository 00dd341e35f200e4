"""The probe's script on this machine, and how its answer is read."""

from __future__ import annotations

import socket
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from inventory.errors import HostError
from provision.facts import HostFacts, probe
from provision.session import CommandResult


def examined(script: str) -> HostFacts:
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    return HostFacts.parse("here", CommandResult(done.returncode == 0, done.stdout, done.stderr))


def test_the_probe_runs_here_and_is_understood() -> None:
    here = examined(probe(["/var/lib/clawd/models"], ask_mirrors=False))
    assert here.cores > 0
    assert here.memory_mb > 100
    assert abs(here.epoch - datetime.now(UTC).timestamp()) < 60
    assert set(here.file_systems) == {"/", "/var/lib/clawd/models"}
    assert all(0 <= space.free_mb <= space.size_mb for space in here.file_systems.values())
    assert here.mirrors == {}


def test_it_changes_nothing_and_measures_the_folder_that_there_is(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_bytes(bytes(3 << 20))
    here = examined(probe([f"{tmp_path}/none/such", f"{tmp_path}/full"], ask_mirrors=False))
    assert here.file_systems[f"{tmp_path}/none/such"].free_mb > 0
    assert here.file_systems[f"{tmp_path}/full"].used_mb in (3, 4)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "full"]


def test_listening_ports_are_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = examined(probe([], ask_mirrors=False)).listeners
    assert port in found


def test_components_of_earlier_runs_are_known(tmp_path: Path) -> None:
    record = tmp_path / "components"
    record.write_text("base\nfirewall\n")
    script = probe([], ask_mirrors=False).replace("/var/lib/clawd/state/components", str(record))
    script = script.replace("/opt/clawd/releases", f"{tmp_path}/none")
    assert examined(script).components == {"base", "firewall"}


def test_package_sources_are_asked_for_a_connection(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        programs = tmp_path / "bin"
        programs.mkdir()
        uris = f"'http://127.0.0.1:{port}/debian/dists/x/InRelease' a 0\n'https://127.0.0.1:1/x' b 0\n"
        (programs / "apt-get").write_text(f'#!/bin/sh\ncat <<"END"\n{uris}END\n')
        (programs / "apt-config").write_text("#!/bin/sh\n")
        for program in programs.iterdir():
            program.chmod(0o755)
        here = examined(f"PATH={programs}:$PATH\n{probe([])}")
    assert here.mirrors == {f"127.0.0.1:{port}": True, "127.0.0.1:1": False}


def test_a_refused_sudo_is_told_as_such() -> None:
    with pytest.raises(HostError, match="sudo refused"):
        HostFacts.parse("one", CommandResult(False, "", "sudo: a password is required"))


def test_nonsense_is_an_error_with_what_was_printed() -> None:
    with pytest.raises(HostError, match="could not be examined: BusyBox"):
        HostFacts.parse("one", CommandResult(True, "BusyBox", ""))
