"""What surrounds a command: the inventory, the log of its run, progress, errors as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from commands.options import RunOptions, split
from inventory.errors import ClawdError

if TYPE_CHECKING:
    from inventory.load import LoadedInventory
    from provision.reporting.display import TerminalProgress
    from provision.run import Run

INTERRUPTED = 130
"""Exit code after Ctrl-C."""


class Trail:
    """The log of the current command, and the warnings that it printed."""

    log: Path | None = None
    warnings: Sequence[str] = ()


@contextmanager
def running(command: str, options: RunOptions) -> Iterator[tuple[Run, TerminalProgress]]:
    """Load the inventory, open the log of the run and start the progress display."""
    from provision.local import concurrency

    concurrency.enable()
    from provision.local.run_log import RunLog
    from provision.reporting.display import TerminalProgress
    from provision.reporting.known_warnings import KnownWarnings
    from provision.reporting.terminal import stderr_console
    from provision.run import Run
    from provision.selection import Selection

    with in_json(options.as_json), RunLog(command) as log:
        trail = trail_of_command()
        trail.log = log.path
        try:
            loaded = where_ssh_leads(loaded_from(options.inventory_name))
            selection = Selection(split("--limit", options.limit), split("--tags", options.tags))
            known = KnownWarnings(loaded.path)
            with TerminalProgress(stderr_console(), options.view, known.is_new) as screen:
                trail.warnings = screen.warnings
                run = Run(
                    loaded, selection, screen, log, options.skip_unreachable, options.purge, options.adopt
                )
                yield run, screen
            known.save()
        except (ClawdError, KeyboardInterrupt, click.ClickException, click.Abort):
            raise
        except Exception as error:
            from provision.reporting.internal_errors import unforeseen

            log.exception(f"{command} failed")
            raise unforeseen(error, log.path) from error


@contextmanager
def in_json(wanted: bool) -> Iterator[None]:
    """Print an error or an interrupt as JSON on standard output as well, if JSON is wanted."""
    try:
        yield
    except ClawdError as error:
        if wanted:
            from provision.reporting.as_json import error_json

            trail = trail_of_command()
            print_json(error_json(error, trail.warnings, trail.log))
        raise
    except (KeyboardInterrupt, click.Abort):
        if wanted:
            from provision.reporting.as_json import interrupted_json

            trail = trail_of_command()
            print_json(interrupted_json(INTERRUPTED, trail.warnings, trail.log))
        raise


def trail_of_command() -> Trail:
    """Return the log and the warnings of the current command."""
    return click.get_current_context().ensure_object(Trail)


def loaded_from(name: str) -> LoadedInventory:
    """Return the inventory `name`, checked with the rules of inventories and of components."""
    from deploys.ports import RULES
    from inventory.inventory_path import find
    from inventory.load import load

    return load(find(name), more=RULES)


def where_ssh_leads(loaded: LoadedInventory) -> LoadedInventory:
    """Return the inventory with the addresses of its hosts from `~/.ssh/config`."""
    from provision.ssh.config import SshConfig
    from provision.ssh.route import with_addresses

    return with_addresses(loaded, SshConfig())


def print_json(value: Any) -> None:
    """Print JSON on standard output."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))
