"""The command `chat`."""

from __future__ import annotations

from collections.abc import Iterator

import click

from commands.options import inventory_option
from commands.running import loaded_from, where_ssh_leads
from inventory.errors import ClawdError


@click.command()
@inventory_option
@click.option("--message", "-m", help="Send this message and exit; by default chat until Ctrl-D.")
@click.option("--user", default=None, help="Name of the user; your login name by default.")
@click.option(
    "--conversation", default="laptop", show_default=True, help="Name of the conversation to continue."
)
def chat(inventory_name: str, message: str | None, user: str | None, conversation: str) -> None:
    """Chat with the deployed bot through its console."""
    import getpass

    from provision.chat import ask, console_of

    if message is not None and not message.strip():
        raise click.BadParameter("the message is empty", param_hint="--message")
    console = console_of(where_ssh_leads(loaded_from(inventory_name)))
    who = user or getpass.getuser()

    def note(notice: str) -> None:
        click.echo(notice, err=True)

    if message is not None:
        say(ask(console, message, user=who, conversation=conversation, waiting=note))
        return
    for text in typed_lines():
        try:
            say(ask(console, text, user=who, conversation=conversation, waiting=note))
        except ClawdError as error:
            click.echo(f"{error}", err=True)


def say(answer: Iterator[str]) -> None:
    """Print an answer as it arrives, and end its last line even after an error."""
    printed = False
    try:
        for piece in answer:
            printed = True
            click.echo(piece, nl=False)
    finally:
        if printed:
            click.echo()


def typed_lines() -> Iterator[str]:
    """Yield the lines that the user types until Ctrl-D."""
    while True:
        try:
            text = click.prompt("you", prompt_suffix="> ", err=True)
        except click.Abort:
            return
        yield text
