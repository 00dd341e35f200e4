from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from inventory.errors import ArtifactError
from provision.artifacts import wheel_file
from provision.artifacts.archive import Stored


def test_members_have_path_mode_and_content(tmp_path: Path) -> None:
    wheel = tmp_path / "x-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("x/__init__.py", b"text " * 100, zipfile.ZIP_DEFLATED)
        archive.writestr("x/raw.bin", b"raw", zipfile.ZIP_STORED)
        script = zipfile.ZipInfo("x-1.data/scripts/run")
        script.external_attr = 0o100755 << 16
        archive.writestr(script, b"#!")
        archive.writestr("x-1.data/purelib/x/more.py", b"more", zipfile.ZIP_DEFLATED)
        archive.mkdir("x/empty")
    found = list(wheel_file.members(wheel))
    assert [(m.scheme, m.path, m.executable, m.content.unpacked()) for m in found] == [
        ("lib", "x/__init__.py", False, b"text " * 100),
        ("lib", "x/raw.bin", False, b"raw"),
        ("scripts", "run", True, b"#!"),
        ("lib", "x/more.py", False, b"more"),
    ]
    assert isinstance(found[1].content, Stored)
    assert found[2].entry("bin").mode == 0o755


@pytest.mark.parametrize("name", ["../evil.py", "x/../../evil.py", "/etc/evil", "x\\..\\evil.py"])
def test_wheel_with_a_path_outside_is_refused(tmp_path: Path, name: str) -> None:
    wheel = tmp_path / "x-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(name, b"x")
    with pytest.raises(ArtifactError, match="forbidden name"):
        list(wheel_file.members(wheel))


def test_truncated_wheel_is_refused(make_wheel: Callable[..., Path]) -> None:
    wheel = make_wheel("x")
    data = wheel.read_bytes()
    for end in range(0, len(data), 7):
        wheel.write_bytes(data[:end])
        with pytest.raises(ArtifactError):
            list(wheel_file.members(wheel))
