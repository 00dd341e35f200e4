from __future__ import annotations

import gzip
import io
import random
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inventory.errors import ArtifactError
from provision.artifacts import archive
from provision.artifacts.archive import ArchiveEntry, Deflated, Stored, Symlink

NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_é", min_size=1, max_size=40)
FOLDERS = st.lists(NAMES, max_size=5).map(lambda parts: "/".join(f"d{part}" for part in parts))
PATHS = st.builds(lambda folder, name: f"{folder}/f{name}".lstrip("/"), FOLDERS, NAMES)


def deflated(data: bytes, level: int = 6) -> Deflated:
    packer = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
    return Deflated(packer.compress(data) + packer.flush(), zlib.crc32(data), len(data))


CONTENTS = st.one_of(st.builds(Stored, st.binary(max_size=3000)), st.binary(max_size=3000).map(deflated))


@settings(max_examples=60)
@given(st.dictionaries(PATHS, CONTENTS, max_size=8), st.randoms())
def test_archive_restores_any_files_and_does_not_depend_on_their_order(
    files: dict[str, Stored | Deflated], chance: random.Random
) -> None:
    entries = [
        ArchiveEntry(path, content, 0o755 if len(path) % 2 else 0o644) for path, content in files.items()
    ]
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "a.tar.gz"
        first = archive.write(target, entries)
        data = target.read_bytes()
        chance.shuffle(entries)
        assert archive.write(target, entries) == first
        assert target.read_bytes() == data
    assert len(data) == first.size
    with tarfile.open(fileobj=io.BytesIO(data)) as opened:
        members = opened.getmembers()
        found = {m.name: opened.extractfile(m).read() for m in members if m.isfile()}  # type: ignore[union-attr]
    assert found == {path: content.unpacked() for path, content in files.items()}
    assert all((m.mtime, m.uid, m.gid, m.uname, m.gname) == (0, 0, 0, "", "") for m in members)
    assert {m.mode for m in members if m.isdir()} <= {0o755}


def test_archive_restores_large_and_empty_files(tmp_path: Path) -> None:
    large = random.Random(1).randbytes(200_001)
    entries = [
        ArchiveEntry("deep/" * 30 + "large.bin", Stored(large)),
        ArchiveEntry("empty", Stored(b"")),
        ArchiveEntry("packed", deflated(b"x" * 1_000_000), 0o755),
        ArchiveEntry("lib/libx.so", Symlink("libx.so.1")),
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


def test_archive_bytes_do_not_depend_on_zlib_of_the_laptop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [ArchiveEntry("a", Stored(b"a" * 5000)), ArchiveEntry("b", deflated(b"b" * 5000))]
    first = archive.write(tmp_path / "1", entries)
    monkeypatch.setattr(zlib, "compress", None)
    monkeypatch.setattr(zlib, "compressobj", None)
    assert archive.write(tmp_path / "2", entries) == first


def test_two_entries_with_one_path_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="two entries have the path x/y"):
        archive.write(tmp_path / "a", [ArchiveEntry("x/y", Stored(b"1")), ArchiveEntry("x/y", Stored(b"2"))])


def test_damaged_deflate_stream_is_refused() -> None:
    good = deflated(b"hello" * 100)
    for bad in (
        Deflated(good.raw[:-2], good.crc, good.size),
        Deflated(good.raw, good.crc ^ 1, good.size),
        Deflated(good.raw, good.crc, good.size + 1),
        Deflated(b"\xff" + good.raw[1:], good.crc, good.size),
    ):
        with pytest.raises(ArtifactError, match="damaged"):
            bad.unpacked()


def test_duplicate_libraries_become_links_within_their_folder() -> None:
    same, other = Stored(b"same"), Stored(b"other")
    entries = [
        ArchiveEntry("p/liba.so", same),
        ArchiveEntry("p/liba.so.0", deflated(b"same")),
        ArchiveEntry("p/liba.so.0.5.0", same),
        ArchiveEntry("p/libb.so", other),
        ArchiveEntry("q/liba.so", same),
        ArchiveEntry("p/a.py", same),
        ArchiveEntry("p/b.py", same),
    ]
    found = {entry.path: entry.content for entry in archive.linked_duplicates(entries)}
    assert found == {
        "p/liba.so": Symlink("liba.so.0.5.0"),
        "p/liba.so.0": Symlink("liba.so.0.5.0"),
        "p/liba.so.0.5.0": same,
        "p/libb.so": other,
        "q/liba.so": same,
        "p/a.py": same,
        "p/b.py": same,
    }
