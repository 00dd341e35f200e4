"""Commands about the console of a deployed bot."""

from __future__ import annotations

import time

import click

from commands.options import inventory_option
from commands.running import loaded_from, where_ssh_leads

LONGEST_MINUTES = 24 * 60 - 2
"""The bot refuses tokens that are valid for more than a day, and they begin two minutes earlier."""
MOST_NAME = 128


@click.group()
def console() -> None:
    """Let people chat with the deployed bot in their browsers."""


@console.command()
@inventory_option
@click.option("--user", default=None, help="Name of the user; your login name by default.")
@click.option(
    "--minutes",
    type=click.IntRange(1, LONGEST_MINUTES),
    default=10,
    show_default=True,
    help="How long the link can be used.",
)
def link(inventory_name: str, user: str | None, minutes: int) -> None:
    """Print a link that logs a person in at the page in the browser. It works once."""
    import getpass

    from provision.console_link import page_link

    who = user or getpass.getuser()
    if len(who) > MOST_NAME:
        raise click.BadParameter(f"longer than {MOST_NAME} characters", param_hint="--user")
    made = page_link(where_ssh_leads(loaded_from(inventory_name)), who, minutes, time.time())
    click.echo(made.url)
    click.echo(f"for {who}; it works once, within {minutes} minutes: pass it on like a password", err=True)
    if made.authority:
        click.echo(f"browsers warn until they trust the authority in {made.authority}", err=True)
