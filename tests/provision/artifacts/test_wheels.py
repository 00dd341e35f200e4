from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.utils import parse_wheel_filename

from inventory.errors import ArtifactError
from provision.artifacts import lockfile
from provision.artifacts.host_kind import HostKind
from provision.artifacts.runtime_source import ENGINE, RuntimeSource
from provision.artifacts.wheels import wheels_for
from provision.local.cache import Cache

pytestmark = pytest.mark.slow

BOOKWORM = HostKind("x86_64", (3, 11), (2, 36))
TRIXIE_ARM = HostKind("aarch64", (3, 13), (2, 41))


def test_wheel_is_chosen_for_the_host(
    only_local_index: Path, make_wheel: Callable[..., Path], lock_line: Callable[..., str], cache: Cache
) -> None:
    tags = (
        "cp311-cp311-manylinux_2_17_x86_64", "cp311-cp311-manylinux_2_39_x86_64",
        "cp311-cp311-musllinux_1_2_x86_64",
        "cp313-cp313-manylinux_2_34_aarch64", "cp313-cp313-macosx_11_0_arm64", "cp313-cp313-win_amd64",
    )  # fmt: skip
    entries = lockfile.parse(
        lock_line(*(make_wheel("alpha", tag=tag) for tag in tags), name="alpha"), name="x"
    )
    assert [w.name for w in wheels_for(entries, BOOKWORM, cache)] == [f"alpha-1.0-{tags[0]}.whl"]
    assert [w.name for w in wheels_for(entries, TRIXIE_ARM, cache)] == [f"alpha-1.0-{tags[3]}.whl"]
    with pytest.raises(ArtifactError, match="x86_64-cp314"):
        wheels_for(entries, HostKind("x86_64", (3, 14), (2, 41)), cache)


def test_cached_wheels_work_without_the_index_and_damaged_ones_are_replaced(
    only_local_index: Path,
    make_wheel: Callable[..., Path],
    lock_line: Callable[..., str],
    cache: Cache,
    tmp_path: Path,
) -> None:
    entries = lockfile.parse(lock_line(make_wheel("alpha"), name="alpha"), name="x")
    (wheel,) = wheels_for(entries, BOOKWORM, cache)
    good = wheel.read_bytes()
    shutil.move(only_local_index, tmp_path / "away")
    assert wheels_for(entries, BOOKWORM, cache) == (wheel,)
    wheel.write_bytes(good[:-1] + b"x")
    with pytest.raises(ArtifactError):
        wheels_for(entries, BOOKWORM, cache)
    shutil.move(tmp_path / "away", only_local_index)
    assert wheels_for(entries, BOOKWORM, cache)[0].read_bytes() == good


@pytest.mark.timeout(60)
@pytest.mark.parametrize("architecture", ["x86_64", "aarch64"])
@pytest.mark.parametrize(("python", "libc"), [((3, 11), (2, 36)), ((3, 13), (2, 41))])
def test_index_has_wheels_of_every_runtime_dependency(
    cache: Cache, architecture: str, python: tuple[int, int], libc: tuple[int, int]
) -> None:
    """Real files from the index."""
    kind = HostKind(architecture, python, libc)
    entries = lockfile.for_kind(RuntimeSource.of_this_program().locked, kind, without={ENGINE})
    wheels = wheels_for(entries, kind, cache)
    tags = {str(name): tags for name, _, _, tags in (parse_wheel_filename(w.name) for w in wheels)}
    assert set(tags) == {entry.name for entry in entries}
    assert any(tag.platform.endswith(architecture) for tag in tags["numpy"])
    assert {tag.interpreter for tag in tags["pydantic-core"]} == {f"cp{python[0]}{python[1]}"}
