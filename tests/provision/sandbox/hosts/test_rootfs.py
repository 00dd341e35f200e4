from __future__ import annotations

import dataclasses
import os
import stat
from pathlib import Path

import pytest

from inventory.errors import SandboxError
from provision.sandbox.commands import silent
from provision.sandbox.hosts import rootfs
from provision.sandbox.hosts.machine_settings import MachineSettings


def stand_in(folder: Path, script: str) -> None:
    """An `unshare` that runs `script`, the tarball's name in `$target`, instead of mmdebstrap."""
    folder.mkdir()
    program = folder / "unshare"
    program.write_text(
        '#!/bin/sh\nfor word; do case "$word" in *.tar.zst) target=$word;; esac; done\n' + script
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


def test_image_name_depends_on_its_contents(
    machine: MachineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = rootfs.image_of("bookworm", machine)
    assert first.startswith("bookworm-")
    assert rootfs.image_of("bookworm", dataclasses.replace(machine, name_servers=())) == first
    assert rootfs.image_of("trixie", machine) != first
    assert rootfs.image_of("bookworm", dataclasses.replace(machine, archive=None)) != first
    monkeypatch.setattr(rootfs, "PACKAGES", (*rootfs.PACKAGES, "curl"))
    assert rootfs.image_of("bookworm", machine) != first


def test_build_command_uses_the_machines_mirror_and_proxy(machine: MachineSettings) -> None:
    command = rootfs.build_command("trixie", Path("/c/x.tar.zst"), machine)
    assert '--aptopt=Acquire::http::Proxy "http://10.213.78.1:3142"' in command
    assert command[-5:] == [
        "trixie",
        "/c/x.tar.zst",
        "deb http://mirror.example/debian trixie main",
        "deb http://mirror.example/debian trixie-updates main",
        "deb http://mirror.example/security trixie-security main",
    ]


def test_build_command_without_mirror_leaves_the_choice_to_mmdebstrap(machine: MachineSettings) -> None:
    command = rootfs.build_command(
        "trixie", Path("/c/x.tar.zst"), dataclasses.replace(machine, archive=None, security=None)
    )
    assert command[-2:] == ["trixie", "/c/x.tar.zst"]


def test_image_is_built_once(
    tmp_path: Path, machine: MachineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path / "bin", f'echo I: working; echo built >> "{tmp_path}/calls"; echo image > "$target"\n')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    reported: list[tuple[str, float | None]] = []
    first = rootfs.ensure_image("trixie", tmp_path / "c", machine, lambda *what: reported.append(what))
    assert first == rootfs.ensure_image("trixie", tmp_path / "c", machine, silent)
    assert first.read_text() == "image\n"
    assert (tmp_path / "calls").read_text() == "built\n"
    assert reported[-1] == ("building Debian trixie", 1.0)
    assert {path.name for path in (tmp_path / "c").iterdir()} == {first.name, "lock"}


def test_failed_image_build_leaves_no_files_and_is_reported(
    tmp_path: Path, machine: MachineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path / "bin", 'echo half > "$target"; echo I: fine; echo E: no such mirror; exit 25\n')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    with pytest.raises(SandboxError, match="building Debian trixie failed: E: no such mirror"):
        rootfs.ensure_image("trixie", tmp_path / "c", machine, silent)
    assert {path.name for path in (tmp_path / "c").iterdir()} == {"lock"}


def test_leftovers_of_a_killed_build_are_deleted(
    tmp_path: Path, machine: MachineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "c"
    image = rootfs.image_of("trixie", machine)
    (cache / f".{image}.new" / "mmdebstrap.abc").mkdir(parents=True)
    (cache / f".{image}.new.tar.zst").write_text("half")
    stand_in(tmp_path / "bin", 'ls -A "$TMPDIR"; echo image > "$target"\n')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert rootfs.ensure_image("trixie", cache, machine, silent).read_text() == "image\n"
    assert {path.name for path in cache.iterdir()} == {f"{image}.tar.zst", "lock"}


def test_remove_tree_refuses_a_folder_with_a_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "root" / "proc").mkdir(parents=True)
    monkeypatch.setattr(rootfs, "_mount_points", lambda: [Path("/"), tmp_path / "root" / "proc"])
    with pytest.raises(SandboxError, match="is mounted in it"):
        rootfs.remove_tree(tmp_path / "root")
    assert (tmp_path / "root" / "proc").is_dir()


def test_remove_tree_ignores_a_missing_folder(tmp_path: Path) -> None:
    rootfs.remove_tree(tmp_path / "gone")
