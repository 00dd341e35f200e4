"""Commands that connect to hosts: up, remove, plan, drift, verify and history."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import click

from commands.options import DATA, RunOptions, adopt_option, diff_option, run_options
from commands.running import print_json, running, trail_of_command
from inventory.errors import ClawdError

if TYPE_CHECKING:
    from provision.plan import Plan
    from provision.reporting.display import TerminalProgress
    from provision.run import Outcome


@click.command()
@run_options
@diff_option
@adopt_option
@click.option("--yes", "-y", is_flag=True, help="Apply without asking.")
@click.option("--no-verify", is_flag=True, help="Do not run the checks after a change.")
@click.option(
    "--purge", is_flag=True, help=f"Delete the data of components that are no longer declared: {DATA}."
)
def up(yes: bool, no_verify: bool, **given: Any) -> NoReturn:
    """Apply the inventory to the hosts. Show the plan and ask for confirmation first."""
    options = RunOptions(**given)
    with running("up", options) as (run, screen):
        from provision import pipeline

        outcome = pipeline.up(run, asking(screen, options, yes=yes), verify=not no_verify)
    finish(outcome, screen, options, plan_shown=True)


@click.command()
@run_options
@diff_option
@adopt_option
@click.option("--yes", "-y", is_flag=True, help="Remove without asking.")
@click.option(
    "--purge", is_flag=True, help=f"Delete data as well, including what earlier removals kept: {DATA}."
)
def remove(yes: bool, **given: Any) -> NoReturn:
    """Remove components from hosts, but keep data. Show the plan and ask for confirmation first."""
    options = RunOptions(**given)
    with running("remove", options) as (run, screen):
        from provision import pipeline

        outcome = pipeline.remove(run, asking(screen, options, yes=yes))
    finish(outcome, screen, options, plan_shown=True)


@click.command()
@run_options
@diff_option
@adopt_option
def plan(**given: Any) -> NoReturn:
    """Show what `up` would change.

    Exit code 2 if something would change, a host is not verified or bots listen on former ports, else 0.
    """
    options = RunOptions(**given)
    with running("plan", options) as (run, screen):
        from provision import pipeline

        outcome = pipeline.plan(run)
    finish(outcome, screen, options)


@click.command()
@run_options
@diff_option
def drift(**given: Any) -> NoReturn:
    """Find hosts that differ from what was last applied. Exit code 3 if one does."""
    options = RunOptions(**given)
    with running("drift", options) as (run, screen):
        from provision import pipeline

        outcome = pipeline.drift(run)
    finish(outcome, screen, options)


@click.command()
@run_options
def verify(**given: Any) -> NoReturn:
    """Run the checks of all components on all hosts, and ask the bots a question. Exit code 1 on failure."""
    options = RunOptions(**given)
    with running("verify", options) as (run, screen):
        from provision import pipeline

        outcome = pipeline.verify(run)
    finish(outcome, screen, options)


@click.command()
@run_options
@click.option(
    "--last",
    type=click.IntRange(1, 10_000),
    default=10,
    show_default=True,
    help="Number of runs to show of each host.",
)
def history(last: int, **given: Any) -> None:
    """Show who applied what and when, from the journals on the hosts."""
    options = RunOptions(**given)
    with running("history", options) as (run, _):
        from provision import pipeline

        entries, unreachable = pipeline.history(run, last)
    if options.as_json:
        from provision.reporting.as_json import history_json

        trail = trail_of_command()
        print_json(history_json(entries, unreachable, trail.warnings, trail.log))
    else:
        from provision.reporting.display import show_history
        from provision.reporting.terminal import stdout_console

        show_history(stdout_console(), entries, unreachable)
    if unreachable:
        sys.exit(1)


def asking(screen: TerminalProgress, options: RunOptions, *, yes: bool) -> Callable[[Plan], bool]:
    """Return a function that shows a plan and asks whether to apply it, unless `yes` is set.

    With JSON on standard output, the plan is printed on standard error.
    """
    from provision.reporting.display import show_plan
    from provision.reporting.terminal import stderr_console, stdout_console

    def confirm(plan: Plan) -> bool:
        screen.pause()
        screen.say_repeated()
        console = stderr_console() if options.as_json else stdout_console()
        show_plan(console, plan, "none" if options.quiet else options.differences)
        agreed = yes or confirmed(plan)
        screen.resume()
        return agreed

    return confirm


def confirmed(plan: Plan) -> bool:
    """Ask whether to apply the plan. Raises `ClawdError` when standard input is not a terminal."""
    from provision.local.concurrency import typed_line

    if not sys.stdin.isatty():
        raise ClawdError(
            "cannot confirm the plan: standard input is not a terminal",
            advice="read the plan, then run the command again with --yes",
        )
    click.echo(f"Apply {plan.changes} changes? [y/N]: ", nl=False, err=True)
    return typed_line().strip().lower() in {"y", "yes"}


def finish(
    outcome: Outcome, screen: TerminalProgress, options: RunOptions, *, plan_shown: bool = False
) -> NoReturn:
    """Print the outcome and exit with its code."""
    if options.as_json:
        from provision.reporting.as_json import outcome_json

        trail = trail_of_command()
        print_json(outcome_json(outcome, trail.warnings, trail.log))
    else:
        from provision.reporting.display import show_outcome
        from provision.reporting.terminal import stdout_console

        if not plan_shown:
            screen.say_repeated()
        show_outcome(stdout_console(), outcome, plan_shown=plan_shown, view=options.view)
    sys.exit(int(outcome.exit))
