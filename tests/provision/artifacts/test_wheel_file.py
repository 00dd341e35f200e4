from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from inventory.errors import ArtifactError
from provision.artifacts import wheel_file


def test_members_have_path_mode_and_content(tmp_path: Path, make_wheel: Callable[..., Path]) -> None:
    wheel = tmp_path / "x-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("x/__init__.py", b"text " * 100, zipfile.ZIP_DEFLATED)
        archive.writestr("x/raw.bin", b"raw", zipfile.ZIP_STORED)
        script = zipfile.ZipInfo("x-1.data/scripts/run")
        script.external_attr = 0o100755 << 16
        archive.writestr(script, b"#!")
        archive.writestr("x-1.data/purelib/x/more.py", b"more", zipfile.ZIP_DEFLATED)
        archive.mkdir("x/empty")
    with wheel_file.members([wheel, make_wheel("y")]) as found:
        assert [(m.scheme, m.path, m.executable, m.size, m.read()) for m in found[:4]] == [
            ("lib", "x/__init__.py", False, 500, b"text " * 100),
            ("lib", "x/raw.bin", False, 3, b"raw"),
            ("scripts", "run", True, 2, b"#!"),
            ("lib", "x/more.py", False, 4, b"more"),
        ]
        entries = [member.entry("lib") for member in found]
        assert [(entry.path, entry.mode) for entry in entries[:3]] == [
            ("lib/x/__init__.py", 0o644), ("lib/x/raw.bin", 0o644), ("lib/run", 0o755)
        ]  # fmt: skip
        assert entries[4].path == "lib/y/__init__.py"
        assert entries[4].read() == b"VALUE = 1\n" * 50


@pytest.mark.parametrize("name", ["../evil.py", "x/../../evil.py", "/etc/evil", "x\\..\\evil.py"])
def test_wheel_with_a_path_outside_is_refused(tmp_path: Path, name: str) -> None:
    wheel = tmp_path / "x-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(name, b"x")
    with pytest.raises(ArtifactError, match="forbidden name"), wheel_file.members([wheel]):
        pass


def test_truncated_wheel_is_refused(make_wheel: Callable[..., Path]) -> None:
    wheel = make_wheel("x")
    data = wheel.read_bytes()
    for end in range(0, len(data), 7):
        wheel.write_bytes(data[:end])
        with pytest.raises(ArtifactError, match="is a damaged wheel"), wheel_file.members([wheel]):
            pass


def test_a_wheel_with_changed_bytes_is_refused_or_read_as_it_was(make_wheel: Callable[..., Path]) -> None:
    wheel = make_wheel("x")
    good = wheel.read_bytes()
    with wheel_file.members([wheel]) as found:
        contents = {(member.path, member.read()) for member in found}
    refused = 0
    for place in range(len(good)):
        wheel.write_bytes(good[:place] + bytes([good[place] ^ 0xFF]) + good[place + 1 :])
        try:
            with wheel_file.members([wheel]) as found:
                read = {(member.path, member.read()) for member in found}
        except ArtifactError:
            refused += 1
        else:  # a time, a comment, or the name of a file, which the checksum does not cover
            assert {content for _, content in read} <= {content for _, content in contents}
    assert refused > len(good) / 4
