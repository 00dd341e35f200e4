"""The room that control groups leave for a model."""

from __future__ import annotations

from pathlib import Path

import pytest

from clawd_runtime.engine.memory_room import require_room, rooms
from clawd_runtime.errors import ModelError

MIB = 1 << 20
UNIT = "clawd.slice/clawd-engines.slice/clawd-engine@new.service"


class Host:
    def __init__(self, folder: Path) -> None:
        self.root = folder / "cgroup"
        self.own = folder / "self"
        self.own.write_text(f"0::/{UNIT}\n")
        for part in ("clawd.slice", "clawd.slice/clawd-engines.slice", UNIT):
            self.group(part)

    def group(self, path: str, limit: int | None = None, used: int = 0, files: int = 0) -> None:
        folder = self.root / path
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "memory.max").write_text("max" if limit is None else str(limit * MIB))
        (folder / "memory.current").write_text(str((used + files) * MIB))
        (folder / "memory.stat").write_text(
            f"anon {used * MIB}\ninactive_file {files * MIB}\nactive_file 0\n"
        )

    def require(self, mib: int | None) -> None:
        require_room(mib and mib * MIB, own=self.own, root=self.root)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_model_that_does_not_fit_into_the_budget_is_refused(host: Host) -> None:
    host.group(UNIT, 2000)
    host.group("clawd.slice/clawd-engines.slice", 3000, used=2000)
    with pytest.raises(
        ModelError, match=r"needs 1500 MiB, and of the 3000 MiB of clawd-engines.slice only 1000"
    ):
        host.require(1500)
    host.require(900)


def test_model_that_does_not_fit_into_its_own_limit_is_refused(host: Host) -> None:
    host.group(UNIT, 1000, used=100)
    with pytest.raises(ModelError, match=r"clawd-engine@new\.service only 900 MiB"):
        host.require(950)


def test_memory_of_files_does_not_count_as_used(host: Host) -> None:
    host.group("clawd.slice/clawd-engines.slice", 3000, used=500, files=2400)
    host.require(2000)


def test_model_of_unknown_need_is_loaded(host: Host) -> None:
    host.group(UNIT, 1)
    host.require(None)


def test_host_without_control_groups_of_version_2_has_no_rooms(tmp_path: Path) -> None:
    own = tmp_path / "self"
    own.write_text("12:memory:/a\n")
    assert rooms(own, tmp_path) == ()
    assert rooms(tmp_path / "missing", tmp_path) == ()
    require_room(1 << 40, own=own, root=tmp_path)


def test_unlimited_groups_are_left_out(host: Host) -> None:
    assert rooms(host.own, host.root) == ()
    host.group("clawd.slice", 10)
    assert [room.group for room in rooms(host.own, host.root)] == ["clawd.slice"]
