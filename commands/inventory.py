"""Commands about inventories and the secrets in them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from commands.options import inventory_option
from commands.running import loaded_from, print_json
from inventory.errors import ClawdError

if TYPE_CHECKING:
    from inventory.load import LoadedInventory


@click.group()
def inventory() -> None:
    """Check inventories and keep secrets in them."""


@inventory.command()
@inventory_option
def check(inventory_name: str) -> None:
    """Check an inventory without connecting to hosts. Report all mistakes, and what each host would run."""
    from provision.preflight import capacity
    from provision.reporting.capacity_display import show_capacity
    from provision.reporting.terminal import stdout_console
    from provision.selection import Selection, assign

    loaded = loaded_from(inventory_name)
    for warning in loaded.warnings:
        click.echo(f"warning: {warning}", err=True)
    for host, assigned in assign(loaded.inventory, Selection()).items():
        click.echo(f"{host}: {', '.join(item.component.name for item in assigned)}")
    show_overrides(loaded)
    hosts = loaded.inventory.hosts
    show_capacity(stdout_console(), [capacity.capacity_of(loaded.inventory, host) for host in hosts])
    capacity.refuse(loaded.inventory, hosts)


@inventory.command()
def schema() -> None:
    """Print the JSON schema of inventories for editors."""
    from inventory.json_schema import json_schema

    print_json(json_schema())


@inventory.command()
@click.option(
    "--output", type=click.Path(path_type=Path), default=None, help="Path of the key file to write."
)
def keygen(output: Path | None) -> None:
    """Create an age key for encrypting secrets in inventories."""
    from inventory.secrets import default_key_file, generate_identity

    target = output or default_key_file()
    click.echo(
        f"public key {generate_identity(target)}; the private key is in {target}: store a copy in a safe "
        "place"
    )


@inventory.command()
@click.option("--recipient", multiple=True, help="Age public key; your own by default (repeat for a team).")
def encrypt(recipient: tuple[str, ...]) -> None:
    """Encrypt a secret from standard input or a prompt, and print it as YAML."""
    from inventory.secrets import encrypt as encrypted
    from inventory.secrets import own_recipients
    from provision.reporting.terminal import check_text, read_stdin

    value = (
        check_text(click.prompt("secret", hide_input=True, err=True), "the secret")
        if sys.stdin.isatty()
        else read_stdin().rstrip("\n")
    )
    if not value.strip():
        raise ClawdError(
            "cannot encrypt: there is no secret on standard input",
            advice='pipe it in (`printf %s "$TOKEN" | clawd-provision inventory encrypt`), or type it',
        )
    armored = encrypted(value, recipient or own_recipients())
    click.echo("!age |\n" + "\n".join(f"  {line}" for line in armored.strip().splitlines()))


def show_overrides(loaded: LoadedInventory) -> None:
    """Print which templates of the user override the program's. Raises `ClawdError` for an invalid one."""
    from deploys.ops.paths.templates import HINT, overrides
    from provision.artifacts.select import override_folder

    folder = override_folder(loaded)
    found = overrides(folder)
    for item in found:
        if item.replaces:
            click.echo(f"template {folder}/{item.name} overrides the program's own")
        elif item.idle:
            hint = (
                f"did you mean {item.nearest}?" if item.nearest else "remove it, or include it from another"
            )
            click.echo(f"template {folder}/{item.name} is not used: {hint}", err=True)
    problems = [item.problem for item in found if item.problem and not item.idle]
    if problems:
        raise ClawdError("\n".join(problems), advice=HINT)
