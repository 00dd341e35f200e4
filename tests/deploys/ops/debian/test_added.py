"""Files that users added to folders of packages: named in the plan, and kept over a purge."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from pyinfra import host

from deploys.ops.debian import added, packages
from deploys.ops.paths import files, originals
from inventory.errors import HostError
from tests.deploys.harness import OWN, Machine

pytestmark = pytest.mark.slow


def applied(operations: Callable[[], object]) -> None:
    def deploy() -> None:
        with host.deploy("Some", None, None):
            operations()

    assert Machine().run(deploy).succeeded


@pytest.fixture
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that stands for /etc."""
    folder = tmp_path / "etc"
    folder.mkdir()
    monkeypatch.setattr(originals, "ETC", str(folder))
    return folder


DPKG = """#!/bin/sh
echo "$*" | cut -c 1-2 >> "$CALLS"
case $1 in
    -L)
        seq -f '/usr/share/locale/%.0f' 20000
        printf '%s\\n' "$ETC" "$ETC/nginx" "$ETC/nginx/mime.types" "$ETC/shared" "$ETC/ssl" ;;
    -S)
        shift
        for path; do
            case $path in
                "$ETC/nginx"|"$ETC/ssl") echo "nginx-common: $path" ;;
                "$ETC/shared") echo "other, nginx-common: $path" ;;
                */of-another-package) echo "other: $path" ;;
            esac
        done ;;
    *) exit 1 ;;
esac
"""


class Host:
    """Folders and programs that stand for a host whose packages are purged."""

    before: dict[str, str]

    def __init__(self, etc: Path, root: Path) -> None:
        self.etc, self.folder, self.root = etc, etc / "nginx", root
        self.calls, self.programs, self.record = root / "calls", root / "bin", root / "state" / "record"
        self.programs.mkdir()
        self.record.parent.mkdir()
        self.program("dpkg-query", DPKG)
        self.variables = {
            **added.values("some"),
            "PATH": f"{self.programs}:{os.environ['PATH']}",
            "ETC": str(etc),
            "CALLS": str(self.calls),
            "packages": "nginx-common",
            "folders": f"{self.folder}\t*.cache",
            "record": str(self.record),
            **dict.fromkeys(("locks", "options", "protected", "purge"), ""),
        }

    @property
    def archive(self) -> Path:
        return self.record.with_name("record.added")

    def program(self, name: str, text: str) -> None:
        (self.programs / name).write_text(text)
        (self.programs / name).chmod(0o755)

    def run(self, program: str, *, shell: str = "sh") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [shell, "-c", program], env=self.variables, capture_output=True, text=True, process_group=0
        )

    def reported(self) -> added.Added:
        """Return what the plan is made from."""
        done = self.run(added._ADDED)
        return added.AddedFact().process(done.stdout.splitlines())

    def removal(
        self, command: str, *, before: str = "", shell: str = "sh"
    ) -> subprocess.CompletedProcess[str]:
        """Run `command` with the functions of the removal."""
        begun, _, ended = packages._REMOVE.partition("before=$(fileless)")
        assert ended
        return self.run(before + begun + command, shell=shell)

    def tree(self) -> dict[str, str]:
        """Return the mode, and content or target, of everything in the folder."""
        found = {}
        for path in sorted(self.folder.rglob("*")):
            text = str(path.readlink()) if path.is_symlink() else path.read_text() if path.is_file() else ""
            mode = stat.S_IMODE(path.lstat().st_mode)
            found[str(path.relative_to(self.folder))] = f"{mode:o} {text}"
        return found


@pytest.fixture
def machine(etc: Path, tmp_path: Path) -> Host:
    return Host(etc, tmp_path)


@pytest.fixture
def purged(machine: Host) -> Host:
    """Return the host where a run was cut off after the purge; `tree` is what was added."""
    (machine.folder / "sites-available").mkdir(mode=0o750, parents=True)
    (machine.folder / "sites-available" / "theirs").write_text("server { }\n" * 1000)
    (machine.folder / ".hidden").write_text("hidden\n")
    (machine.folder / "theirs.conf").write_text("theirs\n")
    (machine.folder / "theirs.conf").chmod(0o640)
    (machine.folder / "link").symlink_to("sites-available/theirs")
    machine.before = machine.tree()
    done = machine.removal('set_aside || exit 1; rm -rf "$ETC/nginx"')
    assert done.returncode == 0, done.stderr
    assert machine.archive.exists()
    assert not machine.folder.exists()
    return machine


@pytest.mark.parametrize("left", ["nothing", "empty folders"])
def test_restore_killed_at_any_command_is_completed_by_the_next_run(purged: Host, left: str) -> None:
    """Before each of its commands: the next run finishes it."""
    archive, killed = purged.archive.read_bytes(), 0
    for at in range(1, 500):
        subprocess.run(["rm", "-rf", str(purged.folder)], check=True)
        if left == "empty folders":
            (purged.folder / "sites-available").mkdir(mode=0o750, parents=True)
        purged.archive.write_bytes(archive)
        trap = f"trap 'n=$((n + 1)); [ $n != {at} ] || kill -9 0' DEBUG\n"
        done = purged.removal(
            f"set -o functrace; n=0; {trap} bring_back; trap - DEBUG; echo finished", shell="bash"
        )
        if "finished" in done.stdout:
            break
        killed += 1
        again = purged.removal("bring_back")
        assert again.returncode == 0, (at, again.stderr)
        assert purged.tree() == purged.before, at
        assert not purged.archive.exists()
        assert sorted(path.name for path in purged.etc.iterdir()) == ["nginx"], at
    assert killed > 20
    assert purged.tree() == purged.before


@pytest.mark.parametrize("cut_off", ["the disk is full", "a kill"])
def test_files_are_restored_after_a_partial_unpack(purged: Host, cut_off: str) -> None:
    end = "exit 2" if cut_off == "the disk is full" else "kill -9 0"
    cut = f'/usr/bin/tar "$@"\nfind "$stage" -type f | while read -r f; do echo cut > "$f"; done\n{end}\n'
    purged.program("tar", f"#!/bin/sh\n{cut}")
    assert purged.removal("bring_back || exit 1").returncode != 0
    assert not purged.folder.exists(), "nothing of an archive that was unpacked in part"
    (purged.programs / "tar").unlink()
    done = purged.removal("bring_back || exit 1")
    assert done.returncode == 0, done.stderr
    assert purged.tree() == purged.before


@pytest.mark.parametrize("program", ["tar", "sort", "sync", "find"])
def test_purge_is_refused_when_added_files_cannot_be_archived(machine: Host, program: str) -> None:
    machine.folder.mkdir()
    (machine.folder / "theirs.conf").write_text("theirs\n")
    machine.program(program, "#!/bin/sh\nexit 2\n")
    assert machine.removal("set_aside || exit 1; echo purged").stdout == ""
    assert not machine.archive.exists()


@pytest.mark.parametrize("there", ["link", "file"])
def test_archive_is_kept_when_the_folder_was_replaced_by_a_link(
    purged: Host, there: str, tmp_path: Path
) -> None:
    """A user who owns the folder may replace what is in it by a link."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    purged.folder.mkdir()
    if there == "link":
        (purged.folder / "sites-available").symlink_to(elsewhere)
    else:
        (purged.folder / "sites-available").write_text("newer")
    done = purged.removal("bring_back || exit 1")
    assert done.returncode == 1
    assert f"{purged.folder}/sites-available was a folder, and is none now" in done.stderr
    assert not list(elsewhere.iterdir())
    (purged.folder / "sites-available").unlink()
    assert purged.removal("bring_back || exit 1").returncode == 0
    assert purged.tree() == purged.before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_files_in_a_folder_of_another_user_are_listed_and_restored(machine: Host) -> None:
    """As /etc/postgresql, which belongs to postgres."""
    machine.folder.mkdir()
    (machine.folder / "theirs.conf").write_text("theirs\n")
    for path in (machine.folder, machine.folder / "theirs.conf"):
        os.chown(path, 65534, 65534)
    assert machine.reported() == added.Added((f"{machine.folder}/theirs.conf",))
    before = machine.tree()
    done = machine.removal('unhindered && set_aside && rm -rf "$ETC/nginx" && bring_back')
    assert done.returncode == 0, done.stderr
    assert machine.tree() == before
    assert {path.stat().st_uid for path in (machine.folder, machine.folder / "theirs.conf")} == {65534}


@pytest.mark.parametrize("where", ["/certs", ""])
def test_packages_with_a_mount_in_their_folder_are_not_removed(
    machine: Host, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = machine.root / "mountinfo"
    (machine.folder / "certs").mkdir(parents=True)
    lines = [
        "25 1 8:1 / / rw - ext4 /dev/sda1 rw",
        f"26 25 8:2 / {machine.folder}-other rw - ext4 /dev/sda2 rw",
        f"27 25 8:2 / {machine.folder}{where} rw - ext4 /dev/sda2 rw",
    ]
    mounts.write_text("\n".join(lines))
    machine.variables["mounts"] = str(mounts)
    said = f"something is mounted on {machine.folder}{where}, which removing the packages would empty"
    assert machine.reported().obstacles == (said,)
    done = machine.removal("{ unhindered && set_aside; } || exit 1; echo purged")
    assert done.stdout == ""
    assert done.stderr.splitlines() == [f"the packages are not removed: {said}", f"hint: {packages.OBSTACLE}"]
    mounts.write_text("\n".join(lines[:2]))
    assert machine.reported().obstacles == ()
    assert machine.removal("unhindered || exit 1; echo purged").stdout == "purged\n"


def test_packages_with_a_line_break_in_a_file_name_are_not_removed(machine: Host) -> None:
    machine.folder.mkdir()
    (machine.folder / "two\nlines").write_text("theirs\n")
    assert machine.reported().obstacles == (f"a file in {machine.folder} has a line break in its name",)
    assert machine.removal("unhindered").returncode == 1


def test_plan_fails_when_a_purge_would_delete_through_a_mount() -> None:
    facts = {
        packages.BroughtFact: frozenset({"nginx-common"}),
        added.AddedFact: added.Added(obstacles=("something is mounted on /etc/nginx/certs",)),
    }
    with pytest.raises(HostError, match="not removed: something is mounted on /etc/nginx/certs") as error:
        Machine(facts=facts).run(lambda: packages.removed("nginx", folders={"/etc/nginx": ()}), execute=False)
    assert error.value.advice == packages.OBSTACLE


def test_dpkg_database_is_read_once_for_many_files(machine: Host) -> None:
    """It takes 0.1 s each time."""
    machine.folder.mkdir()
    for number in range(200):
        (machine.folder / f"theirs-{number}.conf").write_text("")
    (machine.folder / "of-another-package").write_text("")
    assert len(machine.reported().files) == 200
    assert machine.calls.read_text().split() == ["-L", "-S"]


def test_administrator_files_deleted_by_a_purge_are_restored(machine: Host) -> None:
    """As nginx-common does, which removes the whole folder; also by the run after one that was cut off."""
    folder = machine.folder
    folder.mkdir()
    applied(lambda: files.put(str(folder / "ours.conf"), "x\n", **OWN))
    (folder / "sites-available").mkdir(mode=0o750)
    (folder / "sites-available" / "theirs").write_text("server { }\n")
    (folder / "link").symlink_to("sites-available/theirs")
    for name in ("mime.types", "made.cache", "theirs.conf", "../shared/theirs", "../ssl/theirs"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("first\n")
    (folder / "theirs.conf").chmod(0o640)
    assert machine.reported().files == (
        f"{folder}/link",
        f"{folder}/sites-available/theirs",
        f"{folder}/theirs.conf",
    )
    machine.variables["folders"], declared = packages.ANY, machine.variables["folders"]
    assert f"{folder}/made.cache" in machine.reported().files
    assert not [path for path in machine.reported().files if not path.startswith(f"{folder}/")]
    machine.variables["folders"] = declared
    assert machine.removal('set_aside; rm -rf "$ETC/nginx"').returncode == 0
    folder.mkdir()
    (folder / "theirs.conf").write_text("newer\n")
    assert machine.removal("bring_back").returncode == 0
    assert sorted(path.name for path in folder.rglob("*")) == [
        "link",
        "sites-available",
        "theirs",
        "theirs.conf",
    ]
    assert (folder / "theirs.conf").read_text() == "newer\n", "what is there is newer"
    assert (folder / "link").read_text() == "server { }\n"
    assert stat.S_IMODE((folder / "sites-available").stat().st_mode) == 0o750
    assert not machine.archive.exists()
