"""Making artifacts by hand and from the Makefile: `python -m provision.artifacts COMMAND`."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import click

from inventory.errors import ClawdError
from provision.artifacts.cache import Cache
from provision.artifacts.engine_wheel import EngineWheel, engine_wheels
from provision.artifacts.kind import HostKind
from provision.artifacts.release import release_for
from provision.artifacts.sandbox_model import sandbox_model

_DAY = 86400.0


class _Told:
    """Progress on standard error: one line that is written over on a terminal, else now and then a line."""

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
    """Makes what hosts are given."""


@main.command("engine-wheel")
@click.option("--print-path", is_flag=True, help="Print the path of the wheel.")
def engine_wheel(print_path: bool) -> None:
    """The engine for this machine, built when it is not in the cache."""
    cache, told = Cache.default(), _Told()
    kind = _this_kind()
    wheel = _engine(kind, cache, told)
    told.end()
    click.echo(wheel.path if print_path else f"{wheel.path.name} {wheel.sha256}")


@main.command()
def release() -> None:
    """The release for this machine."""
    cache, told = Cache.default(), _Told()
    kind = _this_kind()
    made = release_for(kind, _engine(kind, cache, told), cache, progress=told)
    told.end()
    megabytes = [f"{size / 1e6:.1f} MB" for size in (made.archive.size, made.kept, made.came)]
    click.echo(f"{made.archive.archive}\nid {made.archive.id}, {megabytes[0]}")
    click.echo(f"unpacked {megabytes[1]}; the wheels unpack to {megabytes[2]}")


@main.command("sandbox-model")
@click.argument("target", type=click.Path(path_type=Path))
def model(target: Path) -> None:
    """The sandbox's model, at TARGET."""
    told = _Told()
    sandbox_model(target, Cache.default(), told)
    told.end()


@main.command()
@click.option("--days", default=30.0, show_default=True, help="Keep what was used in that time.")
def prune(days: float) -> None:
    """Removes what was not used for long."""
    freed = Cache.default().prune(days * _DAY)
    click.echo(f"{freed / 1e6:.0f} MB freed")


def _this_kind() -> HostKind:
    kind = HostKind.of_this_machine()
    if kind is None:
        raise click.ClickException("this machine is not of a kind that hosts can be")
    return kind


def _engine(kind: HostKind, cache: Cache, told: _Told) -> EngineWheel:
    return engine_wheels([kind], cache, progress=told)[kind]


if __name__ == "__main__":
    try:
        main()
    except ClawdError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
