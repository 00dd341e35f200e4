"""The command `completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

COMPLETES = "_CLAWD_PROVISION_COMPLETE"
"""Environment variable with which a shell requests completions; click derives it from the program's name."""


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a script for Tab completion of commands, inventories, hosts and components.

    For bash, in ~/.bashrc: eval "$(clawd-provision completion bash)"
    """
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(context.find_root().command, {}, "clawd-provision", COMPLETES).source())
