"""The runtime for this machine, unpacked once for the model tools."""

from __future__ import annotations

import io
import os
import tarfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from inventory.errors import ToolError
from provision.artifacts import toolbox
from provision.artifacts.host_kind import HostKind
from provision.local.cache import Cache


@pytest.fixture
def releases(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The ids of the releases to come; the last one is returned from then on."""
    ids = ["one"]

    def release_for(*_: object, **__: object) -> object:
        name = ids.pop(0) if len(ids) > 1 else ids[0]
        archive = tmp_path / f"{name}.tar.gz"
        with tarfile.open(archive, "w:gz") as file:
            entry = tarfile.TarInfo("site-packages/clawd_runtime/id")
            entry.size = len(name)
            file.addfile(entry, io.BytesIO(name.encode()))
        return SimpleNamespace(archive=SimpleNamespace(id=name, archive=archive))

    monkeypatch.setattr(toolbox, "engine_wheels", lambda kinds, *_, **__: {kinds[0]: None})
    monkeypatch.setattr(toolbox, "release_for", release_for)
    return ids


def test_release_is_unpacked_once(releases: list[str], cache: Cache) -> None:
    steps: list[str] = []
    first = toolbox.site_packages(cache, lambda what, _=None, /: steps.append(what))
    assert (first / "clawd_runtime" / "id").read_text() == "one"
    assert toolbox.site_packages(cache, lambda what, _=None, /: steps.append(what)) == first
    assert steps == ["unpacking llama.cpp"]


def test_older_release_is_removed_a_day_after_its_last_use(releases: list[str], cache: Cache) -> None:
    releases[:] = ["one", "two", "three"]
    one, two = (toolbox.site_packages(cache) for _ in range(2))
    yesterday = time.time() - 25 * 3600
    os.utime(one.parent, (yesterday, yesterday))
    three = toolbox.site_packages(cache)
    assert [folder.exists() for folder in (one, two, three)] == [False, True, True]


def test_machine_that_no_host_is_like_is_refused(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HostKind, "of_this_machine", classmethod(lambda cls: None))
    with pytest.raises(ToolError, match="that needs Linux"):
        toolbox.site_packages(cache)
