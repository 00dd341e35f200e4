"""What checks of several components ask a testinfra host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deploys.ops.services import stamp_of, stamp_path


def runs_as_started(host: Any, unit: str, *, inputs: str = "", watch: Sequence[str] = ()) -> bool:
    """Whether `unit` runs, and what it reads is still what `services.converge` last started it with."""
    watched = [f"{host.file(path).sha256sum}  {path}" for path in watch if host.file(path).is_file]
    stamp = host.file(stamp_path(unit))
    return bool(
        host.service(unit).is_running
        and stamp.is_file
        and stamp.content_string.strip() == stamp_of(inputs, watched)
    )
