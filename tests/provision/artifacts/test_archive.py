from __future__ import annotations

import gzip
import hashlib
import io
import random
import shutil
import subprocess
import tarfile
import tempfile
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inventory.errors import ArtifactError
from provision.artifacts import archive
from provision.artifacts.archive import ArchivedFile, ArchiveEntry, ManifestEntry, Symlink, manifest_digest

NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_é", min_size=1, max_size=40)
FOLDERS = st.lists(NAMES, max_size=5).map(lambda parts: "/".join(f"d{part}" for part in parts))
PATHS = st.builds(lambda folder, name: f"{folder}/f{name}".lstrip("/"), FOLDERS, NAMES)


def file(path: str, content: bytes, mode: int = 0o644) -> ArchivedFile:
    return ArchivedFile(path, partial(bytes, content), mode)


@settings(max_examples=60)
@given(st.dictionaries(PATHS, st.binary(max_size=3000), max_size=8), st.randoms())
def test_archive_restores_any_files_and_does_not_depend_on_their_order(
    files: dict[str, bytes], chance: random.Random
) -> None:
    entries = [file(path, content, 0o755 if len(path) % 2 else 0o644) for path, content in files.items()]
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "a.tar.gz"
        first = archive.write(target, entries)
        data = target.read_bytes()
        chance.shuffle(entries)
        assert archive.write(target, entries) == first
        assert target.read_bytes() == data
    assert (len(data), hashlib.sha256(data).hexdigest()) == (first.size, first.sha256)
    assert first.unpacked == sum(map(len, files.values()))
    with tarfile.open(fileobj=io.BytesIO(data)) as opened:
        members = opened.getmembers()
        found = {m.name: opened.extractfile(m).read() for m in members if m.isfile()}  # type: ignore[union-attr]
    assert found == files
    assert all((m.mtime, m.uid, m.gid, m.uname, m.gname) == (0, 0, 0, "", "") for m in members)
    assert {m.mode for m in members if m.isdir()} <= {0o755}
    assert [(listed.path, listed.mode & 0o777, listed.sha256) for listed in first.manifest] == [
        (path, 0o755 if len(path) % 2 else 0o644, hashlib.sha256(content).hexdigest())
        for path, content in sorted(files.items())
    ]


def test_archive_restores_large_and_empty_files(tmp_path: Path) -> None:
    large = random.Random(1).randbytes(200_001)
    entries: list[ArchiveEntry] = [
        file("deep/" * 30 + "large.bin", large),
        file("empty", b""),
        file("packed", b"x" * 1_000_000, 0o755),
        Symlink("lib/libx.so", "libx.so.1"),
    ]
    target = tmp_path / "a.tar.gz"
    archive.write(target, entries)
    assert gzip.decompress(target.read_bytes())
    if shutil.which("tar") is None:
        pytest.skip("no tar on this machine")
    subprocess.run(["tar", "-xzf", str(target), "-C", str(tmp_path)], check=True)
    assert (tmp_path / ("deep/" * 30 + "large.bin")).read_bytes() == large
    assert (tmp_path / "empty").read_bytes() == b""
    assert (tmp_path / "packed").read_bytes() == b"x" * 1_000_000
    assert (tmp_path / "packed").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "lib/libx.so").readlink() == Path("libx.so.1")


def test_manifest_is_as_sha256sum_and_readlink_see_the_unpacked_files(tmp_path: Path) -> None:
    entries: list[ArchiveEntry] = [file("b", b"2", 0o755), file("a/x", b"1"), Symlink("a/y", "x")]
    manifest = archive.write(tmp_path / "a.tar.gz", entries).manifest
    assert [str(listed) for listed in manifest] == [
        f"100644 {hashlib.sha256(b'1').hexdigest()} a/x",
        f"120777 {hashlib.sha256(b'x').hexdigest()} a/y",
        f"100755 {hashlib.sha256(b'2').hexdigest()} b",
    ]


def test_digest_of_a_manifest_depends_on_every_path_mode_and_content_and_on_nothing_else() -> None:
    listed = (ManifestEntry("a", 0o100644, "1" * 64), ManifestEntry("b", 0o100644, "2" * 64))
    first = manifest_digest(listed)
    assert manifest_digest(reversed(listed)) == first
    others = [
        manifest_digest(other)
        for other in (
            listed[:1],
            (*listed, ManifestEntry("c", 0o100644, "1" * 64)),
            (ManifestEntry("c", 0o100644, "1" * 64), listed[1]),
            (ManifestEntry("a", 0o100755, "1" * 64), listed[1]),
            (ManifestEntry("a", 0o120777, "1" * 64), listed[1]),
            (ManifestEntry("a", 0o100644, "2" * 64), listed[1]),
            (ManifestEntry(f"a\n{listed[1]}", 0o100644, "1" * 64),),
        )
    ]
    assert len({first, *others}) == 1 + len(others)


def test_archive_made_again_has_the_same_bytes_whenever_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a push that was interrupted could not be continued after the cache was removed."""
    first = archive.write(tmp_path / "1", [file("a", b"a" * 5000)])
    monkeypatch.setattr("time.time", lambda: 1e9)
    assert archive.write(tmp_path / "2", [file("a", b"a" * 5000)]) == first


def test_two_entries_with_one_path_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="two entries have the path x/y"):
        archive.write(tmp_path / "a", [file("x/y", b"1"), file("x/y", b"2")])


def test_duplicate_libraries_become_links_within_their_folder() -> None:
    same, other = partial(bytes, b"same"), partial(bytes, b"other")
    entries = [
        ArchivedFile("p/liba.so", same),
        file("p/liba.so.0", b"same"),
        ArchivedFile("p/liba.so.0.5.0", same),
        ArchivedFile("p/libb.so", other),
        ArchivedFile("q/liba.so", same),
        ArchivedFile("p/a.py", same),
        ArchivedFile("p/b.py", same),
    ]
    found = {entry.path: entry for entry in archive.linked_duplicates(entries)}
    kept = {entry.path: entry for entry in entries if entry.path not in ("p/liba.so", "p/liba.so.0")}
    assert found == kept | {
        "p/liba.so": Symlink("p/liba.so", "liba.so.0.5.0"),
        "p/liba.so.0": Symlink("p/liba.so.0", "liba.so.0.5.0"),
    }
