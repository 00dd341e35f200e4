"""Options that several commands have, and the values of a command that connects to hosts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from inventory.errors import ClawdError
from provision.reporting.terminal import Differences, View

Command = Callable[..., Any]
DATA = (
    "conversations, the database and its backups, metrics, dashboards, log lines, Docker's images and "
    "volumes, logs of bans and updates, logins of operators (but not their home folders); the plan lists "
    "each with path and size"
)
"""The data that `--purge` deletes."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The options of a command that connects to hosts."""

    inventory_name: str
    limit: tuple[str, ...]
    tags: tuple[str, ...]
    skip_unreachable: bool
    as_json: bool
    quiet: bool
    verbose: bool
    differences: Differences = "short"
    adopt: bool = False
    purge: bool = False

    @property
    def view(self) -> View:
        """Return the level of output that the options select."""
        return View(self.quiet, self.verbose, self.differences)


class _PrintsExamples(click.Command):
    """A command whose help ends with its epilog as written."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples without wrapping them."""
        if self.epilog:
            formatter.write("\n" + self.epilog)


class GroupWithExamples(_PrintsExamples, click.Group):
    """A group whose help ends with examples."""


class CommandWithExamples(_PrintsExamples):
    """A command whose help ends with examples."""


class InventoryName(click.types.StringParamType):
    """The name or path of an inventory; when it is missing, the message lists those that have a name here."""

    def get_missing_message(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """Return which inventories there are, and how to write the option."""
        from inventory.inventory_path import inventories

        names = sorted(inventories())
        if not names:
            return "There is none yet: write inventory/NAME.yml, then pass -i NAME"
        return f"Pass one of: {', '.join(f'-i {name}' for name in names)}"


def inventory_option(function: Command) -> Command:
    """Add the option `--inventory` of all commands about hosts."""
    return click.option(
        "--inventory", "-i", "inventory_name", required=True, envvar="CLAWD_INVENTORY", metavar="NAME|PATH",
        type=InventoryName(),
        help="Inventory file, or its name: `prod` is inventory/prod.yml here or in a parent folder.",
        shell_complete=completing("complete_inventory"),
    )(function)  # fmt: skip


def run_options(function: Command) -> Command:
    """Add the options of commands that connect to hosts."""
    for option in (
        click.option(
            "--verbose", "-v", is_flag=True, help="Print every operation, every check and known warnings."
        ),
        click.option(
            "--quiet", "-q", is_flag=True, help="Print only the outcome, without progress and differences."
        ),
        click.option("--skip-unreachable", is_flag=True, help="Continue with the hosts that can be reached."),
        click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON on standard output."),
        click.option(
            "--tags", multiple=True, metavar="COMPONENT", help="Only these components (repeat, or a,b).",
            shell_complete=completing("complete_component"),
        ),
        click.option(
            "--limit", multiple=True, metavar="HOST", help="Only these hosts (repeat, or a,b).",
            shell_complete=completing("complete_host"),
        ),
    ):  # fmt: skip
        function = option(function)
    return inventory_option(function)


def diff_option(function: Command) -> Command:
    """Add the option of commands that show a plan."""
    return click.option(
        "--diff", "differences", type=click.Choice(["none", "short", "full"]), default="short",
        show_default=True, help="How many of the differing lines of files to print.",
    )(function)  # fmt: skip


def adopt_option(function: Command) -> Command:
    """Add the option `--adopt` of commands that change hosts, or plan to."""
    return click.option(
        "--adopt", is_flag=True, help="Take over hosts of another project or with another authority."
    )(function)


def completing(name: str) -> Callable[..., Any]:
    """Return a function of `provision.completion`, which is imported only for a completion."""

    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> Any:
        from provision import completion

        return getattr(completion, name)(context, parameter, incomplete)

    return complete


def split(option: str, values: tuple[str, ...]) -> tuple[str, ...]:
    """Return names given as `a,b` or repeated. Raises `ClawdError` for none, which would mean all."""
    names = tuple(name for value in values for name in value.split(",") if name)
    if values and not names:
        raise ClawdError(
            f"{option} has no value", advice=f"write a name after {option}, or remove it to select all"
        )
    return names
