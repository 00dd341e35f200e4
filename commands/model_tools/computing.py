"""What surrounds a tool that computes with llama.cpp: its progress bar, and the process in which it runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from provision.model_tools.worker import ToolWorker
    from provision.reporting.progress_bar import ProgressBar


@contextmanager
def computing() -> Iterator[tuple[ToolWorker, ProgressBar]]:
    """Yield what runs tools, and their progress bar. llama.cpp is built first where the cache lacks it."""
    from provision.artifacts.toolbox import site_packages
    from provision.local.cache import Cache
    from provision.model_tools.worker import ToolWorker
    from provision.reporting.progress_bar import ProgressBar
    from provision.reporting.terminal import stderr_console

    with ProgressBar(stderr_console()) as progress:
        yield ToolWorker((site_packages(Cache.default(), progress),)), progress
