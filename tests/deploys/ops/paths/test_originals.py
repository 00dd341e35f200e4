"""Originals of files that this program replaces: kept, shown in the plan, and restored on removal."""

from __future__ import annotations

import fnmatch
import functools
import importlib
import os
import pkgutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pyinfra import host
from pyinfra.operations import python

import deploys
from deploys.component import Component
from deploys.ops.paths import files, originals
from deploys.ops.removal import removal
from deploys.registry import COMPONENTS
from tests.deploys.harness import OWN, Machine, Run

pytestmark = pytest.mark.slow


def applied(operations: Callable[[], object], *, execute: bool = True) -> Run:
    def deploy() -> None:
        with host.deploy("Some", None, None):
            operations()

    return Machine().run(deploy, execute=execute)


def removed(operations: Callable[[], object] = lambda: None) -> Run:
    def remove() -> None:
        operations()

    return Machine().run(removal("some")(remove))


def put(path: Path, text: str) -> Callable[[], object]:
    return lambda: files.put(str(path), text, **OWN)


def kept_at(path: Path) -> Path:
    return Path(originals.kept_at("some", str(path)))


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda component: component.name)
def test_deploys_are_named_after_their_component(component: Component) -> None:
    """By that name the originals are found again."""
    apply, remove = (deploy._inner.deploy_name for deploy in (component.apply, component.remove))  # type: ignore[attr-defined]
    assert apply.lower() == component.name
    assert remove.removeprefix("Remove ").lower() == component.name


def test_replaced_file_is_kept_and_restored_with_mode_and_times(tmp_path: Path) -> None:
    path = tmp_path / "nftables.conf"
    path.write_text("theirs\n")
    path.chmod(0o640)
    os.utime(path, (1_000_000_000, 1_000_000_000))
    planned = applied(put(path, "ours\n"), execute=False)
    assert planned.changes[0].diff[-1] == (
        f"replaces a file that is not of clawd-provision: copied to {kept_at(path)}, restored on removal"
    )
    assert not kept_at(path).exists(), "a plan changes nothing"

    assert applied(put(path, "ours\n")).succeeded
    assert kept_at(path).read_text() == "theirs\n"
    again = applied(put(path, "ours, changed\n"))
    assert not any("not of clawd-provision" in line for line in again.changes[0].diff)
    assert kept_at(path).read_text() == "theirs\n"

    run = removed()
    assert [(change.path, change.diff) for change in run.changes] == [(str(path), ("original restored",))]
    assert run.succeeded, run.output
    status = path.stat()
    assert (path.read_text(), stat.S_IMODE(status.st_mode), status.st_mtime) == ("theirs\n", 0o640, 1e9)
    assert not removed().predicted
    assert not Path(originals.ORIGINALS).exists()


def test_restored_file_is_kept_again_when_the_component_returns(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("theirs\n")
    applied(put(path, "ours\n"))
    removed()
    path.write_text("theirs, newer\n")
    applied(put(path, "ours\n"))
    removed()
    assert path.read_text() == "theirs, newer\n"


def test_replaced_link_is_restored_as_a_link(tmp_path: Path) -> None:
    path, target = tmp_path / "localtime", tmp_path / "Paris"
    target.write_text("")
    path.symlink_to(target)
    assert applied(lambda: files.link(str(path), "elsewhere")).succeeded
    assert path.readlink() == Path("elsewhere")
    removed()
    assert path.readlink() == target


def test_dropped_file_is_replaced_by_its_original_at_once(tmp_path: Path) -> None:
    """A setting that is dropped, while the component stays."""
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    theirs.write_text("theirs\n")
    applied(lambda: (put(theirs, "x\n")(), put(ours, "x\n")()))
    run = applied(lambda: (files.absent(str(theirs)), files.absent(str(ours))))
    assert [change.diff for change in run.changes] == [("original restored",), ("removed",)]
    assert theirs.read_text() == "theirs\n"
    assert not ours.exists()
    assert not kept_at(theirs).exists()


def test_displaced_site_is_restored(tmp_path: Path) -> None:
    link = tmp_path / "default"
    link.symlink_to("../sites-available/default")
    run = applied(lambda: files.displaced(str(link)))
    assert "restored on removal" in run.changes[0].diff[-1]
    assert not link.is_symlink()
    assert not applied(lambda: files.displaced(str(link))).predicted
    removed()
    assert link.readlink() == Path("../sites-available/default")


def test_owner_and_mode_of_a_folder_are_restored(tmp_path: Path) -> None:
    folder = tmp_path / ".ssh"
    folder.mkdir(mode=0o755)
    applied(lambda: files.directory(str(folder), **OWN, mode="0700"))
    applied(lambda: files.directory(str(folder), **OWN, mode="0710"))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o710
    removed()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755


def test_file_of_this_program_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "new"
    applied(put(path, "one\n"))
    applied(put(path, "two\n"))
    assert not kept_at(path).exists()
    removed(lambda: files.absent(str(path)))
    assert not path.exists()


@pytest.fixture
def earlier() -> None:
    """The component was set up by a version that kept no originals."""
    Path(originals.COMPONENTS).write_text("base\nsome\n")


@pytest.mark.parametrize("operation", ["absent", "absent folder"])
def test_original_survives_a_full_disk_during_its_restoration(
    etc: Path, tmp_path: Path, operation: str
) -> None:
    """The copy stops partway: what lies at the path stays, and so does the original."""
    path = etc / "nginx" / "nginx.conf"
    path.parent.mkdir()
    path.write_text("theirs\n" * 100)
    assert applied(put(path, "ours\n")).succeeded
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "cp").write_text("#!/bin/sh\nfor to; do :; done\nprintf thei > $to\nexit 1\n")
    (programs / "cp").chmod(0o755)
    removed_path = path if operation == "absent" else path.parent
    variables = {
        **originals.values("some"),
        "path": str(removed_path),
        "remove": "",
        "PATH": f"{programs}:{os.environ['PATH']}",
    }
    done = subprocess.run(["sh", "-c", files._ABSENT], env=variables)
    assert done.returncode != 0
    assert path.read_text() == "ours\n"
    assert kept_at(path).read_text() == "theirs\n" * 100
    assert applied(lambda: files.absent(str(removed_path))).succeeded
    assert path.read_text() == "theirs\n" * 100


def test_notes_of_own_files_survive_a_full_disk(tmp_path: Path) -> None:
    paths = [tmp_path / "one", tmp_path / "two"]
    applied(lambda: [put(path, "ours\n")() for path in paths])
    notes = Path(originals.ORIGINALS) / "some" / "ours"
    (notes.parent / "ours.new").symlink_to("/dev/full")
    done = subprocess.run(
        ["sh", "-c", originals.KEEP + 'forget "$path" || exit 1'],
        env={**os.environ, **originals.values("some"), "path": str(paths[0])},
    )
    assert done.returncode == 1
    assert notes.read_text().split() == [str(path) for path in paths]


@pytest.mark.usefixtures("earlier")
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("nginx.conf", "{# #}\n# Written by clawd-provision: changes by hand are undone.\n"),
        ("clawd.json", "{}\n"),
        ("authorized_keys", "ssh-ed25519 of-an-operator\n"),
    ],
)
def test_file_written_by_an_earlier_version_is_not_kept_as_original(
    tmp_path: Path, name: str, text: str
) -> None:
    path = tmp_path / ".ssh" / name
    path.parent.mkdir()
    path.write_text(text)
    planned = applied(put(path, "ours\n"))
    assert not any("not of clawd-provision" in line for line in planned.changes[0].diff)
    assert not kept_at(path).exists()


@pytest.mark.usefixtures("earlier")
def test_file_newly_replaced_on_a_host_of_an_earlier_version_is_kept(tmp_path: Path) -> None:
    """As /etc/logrotate.d/nginx, which the version that set nginx up did not write."""
    theirs, also_theirs, ours = (tmp_path / name for name in ("nginx", "other", "nginx.conf"))
    for path in (theirs, also_theirs):
        path.write_text(f"their {path.name}\n")
    ours.write_text("# Written by clawd-provision: changes by hand are undone.\n")
    planned = applied(put(theirs, "ours\n"))
    assert f"copied to {kept_at(theirs)}, restored on removal" in planned.changes[0].diff[-1]
    applied(lambda: [put(path, "ours, newer\n")() for path in (theirs, also_theirs, ours)])
    assert kept_at(theirs).read_text() == "their nginx\n", "the first of all"
    run = removed(lambda: files.absent(str(ours)))
    assert run.succeeded, run.output
    assert (theirs.read_text(), also_theirs.read_text()) == ("their nginx\n", "their other\n")
    assert not ours.exists()
    assert not Path(originals.ORIGINALS).exists()


def test_original_survives_kills_at_any_time(tmp_path: Path) -> None:
    """Killed again and again while it replaces, removes and puts back, the original is never lost."""
    path, kills = tmp_path / "f", 0
    for delay in range(0, 60, 3):
        path.write_text("theirs\n")
        for operations in ("put", "absent"):
            body = files._ABSENT
            if operations == "put":
                body = files._PUT.replace('\nreceive "$temporary"', '\necho x > "$temporary"')
            variables = {**originals.values("some"), "dest": str(path), "path": str(path), "suffix": ""}
            variables |= {
                "belongs": OWN["owner"],
                "group": OWN["group"],
                "mode": "0644",
                "remove": "",
                "check": "",
            }
            process = subprocess.Popen(["sh", "-c", body], env={**os.environ, **variables}, process_group=0)
            time.sleep(delay / 1000)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                kills += 1
            process.wait()
            if path.exists() and path.read_text() == "theirs\n":
                continue
            assert kept_at(path).read_text() == "theirs\n"
        removed()
        assert path.read_text() == "theirs\n"
        assert sorted(item.name for item in tmp_path.iterdir() if not item.name.startswith(".")) == ["f"]
    assert kills > 10


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to an account that is gone")
@pytest.mark.parametrize("gone", ["before the plan", "after the plan"])
def test_removal_continues_when_the_owner_of_a_folder_has_no_account(tmp_path: Path, gone: str) -> None:
    home, other = tmp_path / "home", tmp_path / "other"
    home.mkdir()
    for path in (home / "authorized_keys", other):
        path.write_text("theirs\n")
        assert applied(put(path, "ours\n")).succeeded

    def orphan() -> None:
        os.chown(home, 54321, 54321)

    def later() -> None:
        python.call(name="The account goes", function=orphan)

    if gone == "before the plan":
        orphan()
    run = removed(later if gone == "after the plan" else lambda: None)
    assert run.succeeded, run.output
    if gone == "before the plan":
        said = ("not restored: the account that owns its folder is gone",)
        assert [change.diff for change in run.changes] == [("original restored",), said]
    assert (home / "authorized_keys").read_text() == "ours\n"
    assert other.read_text() == "theirs\n"
    assert not removed().predicted


def test_removal_forgets_the_last_verification(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "verified"
    monkeypatch.setattr("deploys.ops.removal.VERIFIED", str(folder))
    folder.mkdir()
    (folder / "some").write_text("{}\n")
    (folder / "other").write_text("{}\n")
    run = removed()
    assert [change.path for change in run.changes] == [f"{folder}/some"]
    assert run.succeeded, run.output
    assert [item.name for item in folder.iterdir()] == ["other"]
    assert not removed().predicted


def test_exempt_original_is_not_restored_and_the_plan_says_why(tmp_path: Path) -> None:
    path = tmp_path / "authorized_keys"
    path.write_text("revoked\n")
    applied(put(path, "current\n"))
    deploy = removal("some", exempt=lambda: {str(path): "anna stays"})(lambda: None)
    run = Machine().run(deploy)
    assert [change.diff for change in run.changes] == [("not restored: anna stays",)]
    assert run.succeeded, run.output
    assert path.read_text() == "current\n"
    assert not removed().predicted


@pytest.fixture
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for /etc."""
    folder = tmp_path / "etc"
    folder.mkdir()
    monkeypatch.setattr(originals, "ETC", str(folder), raising=False)
    return folder


def test_drop_in_of_the_administrator_is_no_change_without_own_files(etc: Path) -> None:
    """Of an exporter that is not wanted here, at every run."""
    folder = etc / "systemd" / "system" / "exporter.service.d"
    folder.mkdir(parents=True)
    (folder / "theirs.conf").write_text("[Service]\n")
    applied(put(etc / "of-the-component", "x\n"))
    assert not applied(lambda: files.absent(str(folder))).predicted
    applied(put(folder / "clawd.conf", "[Service]\n"))
    run = applied(lambda: files.absent(str(folder)))
    assert run.predicted
    assert run.succeeded, run.output
    assert [item.name for item in folder.iterdir()] == ["theirs.conf"]
    assert not applied(lambda: files.absent(str(folder))).predicted


def test_empty_folder_in_etc_is_removed(etc: Path) -> None:
    applied(put(etc / "of-the-component", "x\n"))
    (etc / "exporter" / "below").mkdir(parents=True)
    assert applied(lambda: files.absent(str(etc / "exporter"))).succeeded
    assert not (etc / "exporter").exists()


def test_files_added_by_the_administrator_stay_in_etc_and_are_in_the_plan(etc: Path) -> None:
    """As in /etc/docker, when the packages that brought it are gone."""
    folder = etc / "docker"
    applied(lambda: (put(etc / "of-the-component", "x\n")(), files.directory(str(folder), **OWN)))
    applied(put(folder / "daemon.json", "{}\n"))
    (folder / "key.json").write_text("made by the engine")
    (folder / "certs.d").mkdir()
    (folder / "certs.d" / "theirs.crt").write_text("theirs")
    remove = functools.partial(files.absent, str(folder), generated=("key.json",))
    run = applied(lambda: (remove(), remove()))
    assert [change.diff for change in run.changes][:1] == [
        ("removed", f"stays: {folder}/certs.d/theirs.crt, which is not of clawd-provision")
    ], "named once"
    assert sum("theirs.crt" in line for change in run.changes for line in change.diff) == 1
    assert run.succeeded, run.output
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["theirs.crt"]


def test_plan_names_only_some_of_many_files_that_stay(etc: Path) -> None:
    folder = etc / "docker"
    folder.mkdir()
    applied(put(folder / "daemon.json", "{}\n"))
    for number in range(60):
        (folder / f"theirs-{number:02}").write_text("")
    diff = applied(lambda: files.absent(str(folder)), execute=False).changes[0].diff
    names = [f"{folder}/theirs-{number:02}" for number in range(20)]
    named = [f"stays: {name}, which is not of clawd-provision" for name in names]
    assert diff == ("removed", *named, "stays: 40 more files, which are not of clawd-provision")


def test_paths_named_after_this_program_are_removed_from_etc_without_a_note(etc: Path) -> None:
    """Certificates are put there by a program of their own."""
    applied(put(etc / "of-the-component", "x\n"))
    folder = etc / "kibana"
    (folder / "clawd-tls.d").mkdir(parents=True)
    (folder / "clawd-tls.d" / "privkey.pem").write_text("key")
    (folder / "theirs.pem").write_text("key")
    assert applied(lambda: files.absent(str(folder))).succeeded
    assert [item.name for item in folder.iterdir()] == ["theirs.pem"]


@pytest.mark.parametrize("since", ["this version", "an earlier version"])
def test_administrator_file_with_clawd_in_its_name_stays(etc: Path, since: str) -> None:
    """A domain, a registry, and settings of a service: only the names that are really given are ours."""
    theirs = [
        "docker/certs.d/registry.clawd.example.com:5000/ca.crt",
        "docker/certs.d/clawd/ca.crt",
        "nginx/sites-enabled/clawd.example.com.conf",
        "nginx/clawd-example.conf",
        "nginx/conf.d/clawd.conf",
        "kibana/clawd-tls.example.com/key.pem",
        "grafana/provisioning/dashboards/clawd.example.yml",
        "systemd/system/clawd-bot.service.d/override.conf",
    ]
    ours = ["nginx/clawd/upstreams.conf", "kibana/clawd-tls.d/01/privkey.pem", "docker/clawd.env"]
    if since == "an earlier version":
        Path(originals.COMPONENTS).write_text("some\n")
    else:
        applied(put(etc / "of-the-component", "x\n"))
    for name in (*theirs, *ours):
        (etc / name).parent.mkdir(parents=True, exist_ok=True)
        (etc / name).write_text("{}\n")
    folders = sorted({name.split("/")[0] for name in theirs} - {"systemd"})
    folders.append("systemd/system/clawd-bot.service.d")
    run = applied(lambda: [files.absent(str(etc / folder)) for folder in folders])
    assert run.succeeded, run.output
    left = [str(path.relative_to(etc)) for path in etc.rglob("*") if path.is_file()]
    assert sorted(set(left) - {"of-the-component"}) == sorted(theirs)
    lines = [line for change in run.changes for line in change.diff if line.startswith("stays")]
    touched = [name for name in theirs if name.startswith(("docker/", "kibana/", "nginx/"))]
    assert sorted(lines) == [
        f"stays: {etc / name}, which is not of clawd-provision" for name in sorted(touched)
    ]


def named_after_this_program() -> set[str]:
    """Return the paths in /etc with its name that modules of components have as constants."""
    found: set[str] = set()
    for module in pkgutil.walk_packages(deploys.__path__, "deploys."):
        for value in vars(importlib.import_module(module.name)).values():
            listed = value if isinstance(value, (tuple, frozenset, dict)) else (value,)
            found |= {item for item in listed if isinstance(item, str) and item.startswith("/etc/")}
    return {path for path in found if "clawd" in path and "\n" not in path}


def test_names_match_every_path_in_etc_named_after_this_program() -> None:
    paths = named_after_this_program()
    assert len(paths) > 60
    within = tuple(f"{originals.ETC}/{name}/*" for name in originals.NAMES if name.endswith("clawd-tls"))
    for path in paths:
        name = path.removeprefix(f"{originals.ETC}/")
        known = any(fnmatch.fnmatchcase(name, pattern) for pattern in originals.NAMES)
        assert known or any(fnmatch.fnmatchcase(path, pattern) for pattern in within), path


def test_files_generated_before_the_component_was_installed_stay(etc: Path) -> None:
    folder = etc / "docker"
    folder.mkdir()
    (folder / "key.json").write_text("of their engine")
    time.sleep(1.1)
    applied(put(etc / "of-the-component", "x\n"))
    assert not applied(lambda: files.absent(str(folder), generated=("key.json",))).predicted
    assert (folder / "key.json").exists()


@pytest.mark.usefixtures("earlier")
def test_files_added_by_the_administrator_stay_on_a_host_of_an_earlier_version(etc: Path) -> None:
    folder = etc / "docker"
    folder.mkdir()
    (folder / "guard.nft").write_text("# Written by clawd-provision: changes by hand are undone.\n")
    for name in ("key.json", "theirs.json"):
        (folder / name).write_text("{}\n")
    run = applied(lambda: files.absent(str(folder), generated=("key.json",)))
    assert run.changes[0].diff == (
        "removed",
        f"stays: {folder}/theirs.json, which is not of clawd-provision",
    )
    assert run.succeeded, run.output
    assert [item.name for item in folder.iterdir()] == ["theirs.json"]
