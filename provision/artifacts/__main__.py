"""Commands that build artifacts, for users and the Makefile: `python -m provision.artifacts COMMAND`."""

from __future__ import annotations

import re
import sys
import time
from dataclasses import replace
from pathlib import Path

import click

from inventory.errors import ClawdError
from provision.artifacts.engine import variants
from provision.artifacts.engine.wheel import EngineWheel, engine_wheels
from provision.artifacts.host_kind import HostKind
from provision.artifacts.release import release_for
from provision.artifacts.sandbox_model import sandbox_model
from provision.local.cache import Cache

_DAY = 86400.0


class _ProgressLine:
    """Progress on standard error: a line that is redrawn on a terminal, else one every 30 seconds."""

    def __init__(self) -> None:
        self._last = ""
        self._next = 0.0

    def __call__(self, message: str, fraction: float | None = None, /) -> None:
        now = time.monotonic()
        terminal = sys.stderr.isatty()
        step = message if terminal else re.split(r"[:(]", message)[0]
        if step == self._last and now < self._next:
            return
        self._last, self._next = step, now + (0.2 if terminal else 30.0)
        line = message if fraction is None else f"{message} {fraction:4.0%}"
        click.echo(f"\r\x1b[K{line}" if terminal else line, err=True, nl=not terminal)

    def end(self) -> None:
        if self._last and sys.stderr.isatty():
            click.echo("", err=True)


@click.group()
def main() -> None:
    """Build artifacts for hosts."""


@main.command("engine-wheel")
@click.option("--print-path", is_flag=True, help="Print the path of the wheel.")
@click.option("--all-processors", is_flag=True, help="Build for every processor, as for hosts elsewhere.")
def engine_wheel(print_path: bool, all_processors: bool) -> None:
    """Print the engine for this machine; build it when it is not in the cache.

    It is built for this machine's processor, and for the oldest one. An engine for all processors that is in
    the cache is used.
    """
    cache, progress = Cache.default(), _ProgressLine()
    kind = replace(_this_kind(), cpu=variants.ALL) if all_processors else _this_kind()
    wheel = _engine(kind, cache, progress)
    progress.end()
    click.echo(wheel.path if print_path else f"{wheel.path.name} {wheel.sha256}")


@main.command()
def release() -> None:
    """Print the release for this machine; build it when it is not in the cache."""
    cache, progress = Cache.default(), _ProgressLine()
    kind = _this_kind()
    made = release_for(kind, _engine(kind, cache, progress), cache, progress=progress)
    progress.end()
    megabytes = [f"{size / 1e6:.1f} MB" for size in (made.archive.size, made.kept, made.came)]
    click.echo(f"{made.archive.archive}\nid {made.archive.id}, {megabytes[0]}")
    click.echo(f"unpacked {megabytes[1]}; the wheels unpack to {megabytes[2]}")


@main.command("sandbox-model")
@click.argument("target", type=click.Path(path_type=Path))
def model(target: Path) -> None:
    """Write the sandbox's model to TARGET."""
    progress = _ProgressLine()
    sandbox_model(target, Cache.default(), progress)
    progress.end()


@main.command()
@click.option("--days", default=30.0, show_default=True, help="Keep entries that were used in that time.")
def prune(days: float) -> None:
    """Remove cache entries that were not used for a long time."""
    freed = Cache.default().prune(days * _DAY)
    click.echo(f"{freed / 1e6:.0f} MB freed")


def _this_kind() -> HostKind:
    kind = HostKind.of_this_machine()
    if kind is None:
        raise click.ClickException("cannot build on this machine: hosts of its kind are not supported")
    return replace(kind, cpu=variants.of_this_machine())


def _engine(kind: HostKind, cache: Cache, progress: _ProgressLine) -> EngineWheel:
    return engine_wheels([kind], cache, progress=progress)[kind]


if __name__ == "__main__":
    try:
        main()
    except ClawdError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
