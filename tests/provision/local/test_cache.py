from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inventory.errors import ArtifactError
from provision.local.cache import Cache, default_folder, digest_of, sha256_of
from provision.sandbox import Layout


def test_entry_replaces_the_old_one_atomically(cache: Cache) -> None:
    for text in ("old", "new"):
        with cache.making("models", "k") as work:
            (work / "f").write_text(text)
            assert not cache.entry("models", "k").exists() or text == "new"
        assert (cache.entry("models", "k") / "f").read_text() == text
    assert list((cache.root / "partial").iterdir()) == []


def test_failure_keeps_the_old_entry_and_leaves_no_partial_one(cache: Cache) -> None:
    with cache.making("models", "k") as work:
        (work / "f").write_text("old")

    def interrupted() -> None:
        with cache.making("models", "k") as work:
            (work / "f").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (cache.entry("models", "k") / "f").read_text() == "old"
    assert list((cache.root / "partial").iterdir()) == []


_HOLD = """
import sys, time
from pathlib import Path
from types import SimpleNamespace
from provision.local.cache import Cache
cache = Cache(Path(sys.argv[1]))
with cache.lock("x"), cache.making("models", "killed") as work:
    (work / "f").write_text("half")
    print("held", flush=True)
    time.sleep(60)
"""


def test_killed_run_frees_its_lock_and_leaves_no_entry(cache: Cache) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(cache.root)], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
    )
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == "held\n"
        messages: list[str] = []

        def progress(message: str, fraction: float | None = None) -> None:
            messages.append(message)
            holder.send_signal(signal.SIGKILL)

        with cache.lock("x", progress):
            pass
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    assert messages == ["waiting for another run that builds x"]
    assert not cache.entry("models", "killed").exists()
    left = next((cache.root / "partial").iterdir())
    os.utime(left, (0, 0))
    with cache.workspace():
        assert not left.exists()


def test_prune_deletes_only_unused_entries_of_the_program(cache: Cache) -> None:
    for key in ("used", "unused"):
        with cache.making("models", key) as work:
            (work / "f").write_bytes(b"x" * 1000)
    foreign = cache.root / "sandbox" / "root"
    foreign.mkdir(parents=True)
    for entry in (cache.entry("models", "used"), cache.entry("models", "unused"), foreign):
        os.utime(entry, (0, 0))
    cache.used(cache.entry("models", "used"))
    assert cache.size() == 2000
    assert cache.prune(60) == 1000
    assert cache.entry("models", "used").exists()
    assert foreign.exists()
    assert cache.size() == 1000


def test_cache_folder_is_that_of_the_user_unless_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CLAWD_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("SUDO_UID", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder() == tmp_path / ".cache/clawd-provision"
    monkeypatch.setenv("CLAWD_CACHE", str(tmp_path / "own"))
    assert Cache.default().root == tmp_path / "own"


@pytest.fixture
def called_by_sudo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The home of a person who called the program with sudo, as root's environment is then."""
    for name in ("CLAWD_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "root"))
    monkeypatch.setenv("SUDO_UID", "65534")
    monkeypatch.setenv("SUDO_GID", "65534")
    home = tmp_path / "home" / "anna"
    home.mkdir(parents=True)
    monkeypatch.setattr("provision.local.user.pwd.getpwuid", lambda _: SimpleNamespace(pw_dir=str(home)))
    return home


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be who sudo makes one")
def test_cache_folder_under_sudo_is_that_of_the_caller_and_owned_by_them(called_by_sudo: Path) -> None:
    cache = Cache.default()
    assert cache.root == called_by_sudo / ".cache" / "clawd-provision"
    assert Layout().cache == cache.root / "sandbox"
    with cache.lock("engine"), cache.making("engine", "k") as work:
        (work / "folder").mkdir()
        (work / "folder" / "file").touch()
    made = list((called_by_sudo / ".cache").rglob("*"))
    assert cache.root / "engine" / "k" / "folder" / "file" in made
    assert {path.stat().st_uid for path in (called_by_sudo / ".cache", *made)} == {65534}
    assert called_by_sudo.stat().st_uid == 0, "what was there before is left as it was"


def test_sudo_variables_are_ignored_without_rights_of_root(
    called_by_sudo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("provision.local.user.os.geteuid", lambda: 1000)
    assert default_folder() == called_by_sudo.parents[1] / "root" / ".cache" / "clawd-provision"


def test_cache_folder_that_cannot_be_created_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(ArtifactError, match="CLAWD_CACHE"),
        Cache(tmp_path / "file" / "cache").making("models", "k"),
    ):
        pass


def test_digest_depends_on_the_boundaries_of_its_parts() -> None:
    assert digest_of("ab", "c") != digest_of("a", "bc")


@given(st.lists(st.text(), max_size=4), st.lists(st.text(), max_size=4))
def test_digests_are_equal_only_for_equal_parts(a: list[str], b: list[str]) -> None:
    assert (digest_of(*a) == digest_of(*b)) == (a == b)


def test_progress_of_reading_a_large_file_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "large"
    with file.open("wb") as handle:
        handle.truncate(200 << 20)
    fractions: list[float | None] = []
    sha256_of(file, lambda message, fraction=None: fractions.append(fraction))
    assert fractions == sorted(fractions, key=lambda f: f or 0.0)
    assert len(fractions) == 3
