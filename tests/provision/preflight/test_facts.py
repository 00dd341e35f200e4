"""The probe's script on this machine, and how its answer is read."""

from __future__ import annotations

import socket
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from inventory.errors import HostError
from provision.connection.session import CommandResult
from provision.preflight.facts import HostFacts, PortListener, probe


def examined(script: str) -> HostFacts:
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    return HostFacts.parse("here", CommandResult(done.returncode == 0, done.stdout, done.stderr))


def test_probe_of_this_machine_is_parsed() -> None:
    here = examined(probe(["/var/lib/clawd/models"], ask_mirrors=False))
    assert here.cores > 0
    assert here.memory_mb > 100
    assert abs(here.epoch - datetime.now(UTC).timestamp()) < 60
    assert set(here.file_systems) == {"/", "/var/lib/clawd/models"}
    assert all(0 <= space.free_mb <= space.size_mb for space in here.file_systems.values())
    assert here.mirrors == {}
    assert here.gpus is not None


def test_probe_measures_the_nearest_existing_folder_and_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_bytes(bytes(3 << 20))
    here = examined(probe([f"{tmp_path}/none/such", f"{tmp_path}/full"], ask_mirrors=False))
    assert here.file_systems[f"{tmp_path}/none/such"].free_mb > 0
    assert here.file_systems[f"{tmp_path}/full"].used_mb in (3, 4)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "full"]


def test_listening_ports_are_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = examined(probe([], ask_mirrors=False)).listeners
    assert port in found


def with_programs(folder: Path, **programs: str) -> str:
    """The probe, finding these shell programs before those of this machine."""
    for name, text in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    return f"PATH={folder}:$PATH\n{probe([], ask_mirrors=False)}"


def test_published_port_is_found_with_its_container(tmp_path: Path) -> None:
    listening = """echo 'LISTEN 0 9 0.0.0.0:443 0.0.0.0:* users:(("docker-proxy",pid=999999,fd=4))'"""
    found = examined(
        with_programs(tmp_path, ss=listening, docker='[ "$3" != publish=443 ] || echo somebodys-web')
    ).listeners
    assert found == {443: PortListener("docker-proxy", "docker/somebodys-web")}


SYSTEM = "sda disk 21474836480 0  \nsda1 part 21473787904 0 / sda\n"
SPARE = "vdb disk 53687091200 0  \n"


@pytest.mark.parametrize(
    ("disks", "megabytes"),
    [
        (SYSTEM, 0),
        (SYSTEM + SPARE, 51_200),
        (SYSTEM + SPARE + "vdc disk 53687091200 0  \n", 0),
        (SYSTEM + SPARE + "zram0 disk 4294967296 0  \nnbd0 disk 0 0  \nsr0 rom 1073741312 1  \n", 51_200),
        (SYSTEM + SPARE + "sdb disk 8000000000 1  \nfd0 disk 4096 1  \nvdc disk 1048576 0  \n", 51_200),
        (SYSTEM + "zram0 disk 4294967296 0 [SWAP] \nnbd1 disk 0 0  \n", 0),
        (SYSTEM + "vdb disk 53687091200 0 [SWAP] \n", 0),
        (SYSTEM + SPARE + "vg-data lvm 53687091200 0  vdb\n", 0),
        (SYSTEM + "sda9 part 1048576 0  sda\n" + "sd disk 53687091200 0  \n", 51_200),
    ],
)
def test_data_disk_size_is_that_of_the_only_blank_disk(tmp_path: Path, disks: str, megabytes: int) -> None:
    assert examined(with_programs(tmp_path, lsblk=f"printf '{disks}'")).data_disk_mb == megabytes


def test_components_of_earlier_runs_are_read(tmp_path: Path) -> None:
    record = tmp_path / "components"
    record.write_text("base\nfirewall\n")
    script = probe([], ask_mirrors=False).replace("/var/lib/clawd/state/components", str(record))
    script = script.replace("/opt/clawd/releases", f"{tmp_path}/none")
    assert examined(script).components == {"base", "firewall"}


def test_package_sources_are_tested_for_a_connection(tmp_path: Path) -> None:
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


def test_refused_sudo_is_reported() -> None:
    with pytest.raises(HostError, match="sudo refused"):
        HostFacts.parse("one", CommandResult(False, "", "sudo: a password is required"))


def test_malformed_facts_are_an_error_with_the_output() -> None:
    with pytest.raises(HostError, match="cannot read its facts: BusyBox"):
        HostFacts.parse("one", CommandResult(True, "BusyBox", ""))
