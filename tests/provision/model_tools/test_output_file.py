"""Files of tools appear complete, or not at all."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from inventory.errors import ClawdError
from provision.model_tools import output_file
from provision.model_tools.output_file import written


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fail_half_way(target: Path, error: type[BaseException]) -> None:
    with written(target, replace=True) as partial:
        partial.write_bytes(b"half")
        raise error


def test_file_appears_under_its_name_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "m.gguf"
    with written(target, replace=False) as partial:
        partial.write_bytes(b"model")
        assert not target.exists()
    assert target.read_bytes() == b"model"
    assert names(tmp_path) == ["m.gguf"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_is_left_after_an_exception(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "m.gguf"
    target.write_bytes(b"old")
    with pytest.raises(error):
        fail_half_way(target, error)
    assert names(tmp_path) == ["m.gguf"]
    assert target.read_bytes() == b"old"


def test_existing_file_is_replaced_only_if_that_is_wanted(tmp_path: Path) -> None:
    target = tmp_path / "m.gguf"
    target.write_bytes(b"old")
    with pytest.raises(ClawdError, match="it exists") as caught, written(target, replace=False):
        pytest.fail("it must not begin")
    assert "--force" in caught.value.advice
    with written(target, replace=True) as partial:
        partial.write_bytes(b"new")
    assert target.read_bytes() == b"new"


def test_missing_folder_and_folder_in_place_of_a_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ClawdError, match="does not exist"), written(tmp_path / "no" / "m", replace=False):
        pytest.fail("it must not begin")
    with pytest.raises(ClawdError, match="it is a folder"), written(tmp_path, replace=True):
        pytest.fail("it must not begin")


def test_too_little_disk_space_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(free=output_file.MARGIN + 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with written(tmp_path / "fits", replace=False, needed=1000) as partial:
        partial.touch()
    with (
        pytest.raises(ClawdError, match="only 65 MiB are free"),
        written(tmp_path / "large", replace=False, needed=1001),
    ):
        pytest.fail("it must not begin")
    assert names(tmp_path) == ["fits"]


def test_incomplete_file_of_a_killed_process_is_removed_and_that_of_a_running_one_kept(
    tmp_path: Path,
) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (tmp_path / f".m[1].gguf.{ended.pid}.partial").touch()
    (tmp_path / ".m[1].gguf.1.partial").touch()
    (tmp_path / f".other.gguf.{ended.pid}.partial").touch()
    with written(tmp_path / "m[1].gguf", replace=False) as partial:
        partial.touch()
    assert names(tmp_path) == sorted(
        [".m[1].gguf.1.partial", f".other.gguf.{ended.pid}.partial", "m[1].gguf"]
    )
