"""The runtime with llama.cpp for this machine, unpacked: model tools run in it, each in its own process."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path

from inventory.errors import ToolError
from provision.artifacts.engine import variants
from provision.artifacts.engine.wheel import engine_wheels
from provision.artifacts.host_kind import HostKind
from provision.artifacts.release import release_for
from provision.local.cache import Cache
from provision.local.report_progress import ReportProgress, silent

_KEPT_FOR = 86400.0
"""Seconds for which another release stays unpacked after its last use: it takes 120 MB."""


def site_packages(cache: Cache, progress: ReportProgress = silent) -> Path:
    """Return the folder of the runtime's packages for this machine; built and unpacked once.

    Raises `ToolError` on a machine that hosts cannot be like, `ArtifactError` when the build fails.
    """
    kind = HostKind.of_this_machine()
    if kind is None:
        raise ToolError(
            "cannot compute with a model on this machine: that needs Linux on x86_64 or aarch64 with glibc "
            "and Python 3.11 or newer",
            advice="run it on a Debian machine, real or virtual",
        )
    kind = replace(kind, cpu=variants.of_this_machine())
    engine = engine_wheels([kind], cache, progress=progress)[kind]
    release = release_for(kind, engine, cache, progress=progress)
    key = f"{kind}-{release.archive.id}"
    folder = cache.entry("toolbox", key)
    if not folder.is_dir():
        with cache.lock("toolbox", progress):
            if not folder.is_dir():
                progress("unpacking llama.cpp")
                with cache.making("toolbox", key) as work:
                    # The archive was built by this program; Debian 12's Python 3.11 lacks tarfile's filters.
                    shutil.unpack_archive(release.archive.archive, work, "gztar")
                _remove_older(folder, kind)
    cache.used(folder)
    return folder / "site-packages"


def _remove_older(folder: Path, kind: HostKind) -> None:
    for other in folder.parent.glob(f"{kind}-*"):
        if other != folder and other.stat().st_mtime < time.time() - _KEPT_FOR:
            shutil.rmtree(other, ignore_errors=True)
