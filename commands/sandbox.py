"""Commands about throwaway hosts on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, NoReturn

import click

if TYPE_CHECKING:
    from provision.sandbox import SandboxHost


@click.group()
def sandbox() -> None:
    """Manage throwaway Debian hosts on this machine."""


@sandbox.command(name="up")
@click.option(
    "--hosts",
    type=click.IntRange(1, 99),
    default=1,
    show_default=True,
    help="Number of hosts: bot1, bot2, …",
)
@click.option(
    "--release",
    multiple=True,
    type=click.Choice(["bookworm", "trixie"]),
    help="Debian release of the hosts (repeat for one per host). A host of another release is replaced with "
    "its data. By default existing hosts keep their release, and new hosts have bookworm.",
)
def sandbox_up(hosts: int, release: tuple[str, ...]) -> None:
    """Start hosts; running hosts are left unchanged."""
    from provision import sandbox as machines
    from provision.reporting.display import TerminalProgress
    from provision.reporting.terminal import stderr_console

    with TerminalProgress(stderr_console()) as screen:
        screen.step("starting the sandbox")
        started = machines.up(hosts=hosts, releases=release, lasting=True, progress=screen.detail)
    show_sandbox(started)
    inventory = machines.write_inventory(machines.Layout(), machines.status())
    if len(started) > 1:
        click.echo(f"inventory of these hosts: {inventory}", err=True)


@sandbox.command(name="status")
def sandbox_status() -> None:
    """Show the state of the hosts."""
    from provision import sandbox as machines

    show_sandbox(machines.status())


@sandbox.command(name="ssh", context_settings={"allow_interspersed_args": False})
@click.argument("host", default="bot1")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def sandbox_ssh(host: str, command: tuple[str, ...]) -> NoReturn:
    """Log in to a host, or run a command on it."""
    from provision import sandbox as machines

    words = [*machines.ssh_command(host), *command]
    os.execvp(words[0], words)  # noqa: S606 - ssh takes over this terminal


@sandbox.command(name="down")
@click.option("--purge", is_flag=True, help="Delete keys, secrets and models as well.")
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="Remove all sandboxes of this checkout, and leftovers of killed runs on this machine.",
)
def sandbox_down(purge: bool, everything: bool) -> None:
    """Stop and remove the hosts and everything created for them."""
    from provision import sandbox as machines

    machines.down(purge=purge)
    click.echo("removed the sandbox", err=True)
    for folder in machines.clear() if everything else ():
        click.echo(f"removed the sandbox in {folder}", err=True)


def show_sandbox(hosts: Iterable[SandboxHost]) -> None:
    """Print the hosts of the sandbox."""
    for host in hosts:
        click.echo(f"{host.name}  {host.address}  {host.release}  {host.backend}  {host.state}")
