"""Commands that give models of a deployment shares of its conversations."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NoReturn

import click

from commands.hosts import asking, finish
from commands.options import RunOptions, diff_option, run_options
from commands.running import loaded_from, print_json, running
from inventory.errors import ClawdError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from inventory.editing import InventoryChange
    from inventory.model import Inventory
    from provision.model_routes import UsedRoutes

yes_option = click.option("--yes", "-y", is_flag=True, help="Apply without asking.")
name_argument = click.argument("name", metavar="NAME")


@click.command("list")
@run_options
def list_models(**given: Any) -> None:
    """List the models that the bots use, their shares of conversations, and what the judge decided."""
    options = RunOptions(**given)
    with running("model list", options) as (run, _):
        from provision import pipeline

        used, unreachable = pipeline.used_routes(run)
    if options.as_json:
        from dataclasses import asdict

        print_json({host: asdict(routes) for host, routes in used.items()})
    else:
        _show(used)
    if unreachable:
        sys.exit(1)


@click.command()
@name_argument
@click.option(
    "--share",
    type=click.IntRange(1, 100),
    default=5,
    show_default=True,
    help="Percentage of the conversations.",
)
@run_options
@diff_option
@yes_option
def canary(name: str, share: int, yes: bool, **given: Any) -> NoReturn:
    """Let the further model NAME answer a small share of conversations. Edits the inventory.

    A bot whose judge finds it worse than the default returns these conversations at once.
    """
    options = RunOptions(**given)
    inventory = _inventory(options)
    from provision.model_routes import with_share

    _apply("model canary", options, with_share(inventory, name, share), yes=yes)


@click.command()
@name_argument
@run_options
@diff_option
@yes_option
def promote(name: str, yes: bool, **given: Any) -> NoReturn:
    """Raise the share of the further model NAME: to 5, 25, then 100 %. Edits the inventory.

    Refused where a bot has taken its share away.
    """
    options = RunOptions(**given)
    inventory = _inventory(options)
    from provision.model_routes import next_share, refuse_stopped, with_share

    share = next_share(inventory, name)
    with running("model promote", options) as (run, _):
        from provision import pipeline

        used, unreachable = pipeline.used_routes(run)
    if unreachable and not options.skip_unreachable:
        raise ClawdError(
            f"cannot ask the bots of {', '.join(unreachable)}",
            advice="pass --skip-unreachable to leave these hosts as they are",
        )
    refuse_stopped(name, used)
    _apply("model promote", options, with_share(inventory, name, share), yes=yes)


@click.command()
@name_argument
@run_options
@diff_option
@yes_option
def abort(name: str, yes: bool, **given: Any) -> NoReturn:
    """Return all conversations of the further model NAME to the default. Edits the inventory."""
    options = RunOptions(**given)
    inventory = _inventory(options)
    from provision.model_routes import with_share

    _apply("model abort", options, with_share(inventory, name, 0), yes=yes)


@click.command("remove")
@name_argument
@run_options
@diff_option
@yes_option
def remove_model(name: str, yes: bool, **given: Any) -> NoReturn:
    """Remove the further model NAME from the inventory and from the hosts, after its last answers."""
    options = RunOptions(**given)
    inventory = _inventory(options)
    from provision.model_routes import without

    _apply("model remove", options, without(inventory, name), yes=yes)


ROUTES = (list_models, canary, promote, abort, remove_model)
"""All of them, for the group `model`."""


def _inventory(options: RunOptions) -> Inventory:
    """Return the inventory of a command that connects to hosts afterwards."""
    from provision.local import concurrency

    concurrency.enable()  # before anything that it patches is imported
    return loaded_from(options.inventory_name).inventory


class _Declined(Exception):
    """The plan was shown and not accepted, or not carried out: the inventory stays as it was."""


def _apply(command: str, options: RunOptions, change: InventoryChange, *, yes: bool) -> NoReturn:
    """Edit the inventory and apply it; put the former file back unless the plan was carried out."""
    from inventory.editing import edited
    from inventory.inventory_path import find

    outcome = None
    try:
        with edited(find(options.inventory_name), change):
            with running(command, options) as (run, screen):
                from provision import pipeline

                outcome = pipeline.up(run, asking(screen, options, yes=yes))
            if outcome.result is None and outcome.plan is not None and outcome.plan.changes:
                raise _Declined
    except _Declined:
        click.echo("the inventory stays as it was", err=True)
    assert outcome is not None
    finish(outcome, screen, options, plan_shown=True)


def _show(used: Mapping[str, UsedRoutes]) -> None:
    from rich.table import Table

    from provision.reporting.terminal import stdout_console

    table = Table(box=None, pad_edge=False)
    for column in ("host", "model", "serves", "share", "state", "answering", "waiting", "judged", "verdict"):
        table.add_column(column)
    for host, routes in used.items():
        for model in routes.models:
            state = {"closed": "answers", "half-open": "is tried again", "open": "does not answer"}
            table.add_row(
                *(host, model.name, model.model, f"{model.share} %", state[model.breaker]),
                *(str(model.answering), str(model.waiting), str(model.judged), model.stopped or "–"),
            )
        if routes.problem:
            click.echo(f"{host}: the bot cannot read its routes: {routes.problem}", err=True)
    stdout_console().print(table)
