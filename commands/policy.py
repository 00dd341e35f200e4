"""Commands about the policy: what may be asked and said."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from commands.options import RunOptions, completing, run_options
from commands.running import loaded_from, print_json, running
from inventory.errors import ClawdError

if TYPE_CHECKING:
    from inventory.policy_files.assembly import AssembledPolicy
    from inventory.policy_files.trial import FoundRule, PolicyTrial


@click.group()
def policy() -> None:
    """Check word lists and rules, try them with texts, and find out why a message was changed."""


@policy.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Check FILE, a YAML file with rules or a text file with words, as the bot would load it."""
    trial = tried_or_refused(policy_of(file))
    click.echo(
        f"{file}: {trial.words} words, {trial.rules} rules, {trial.megabytes:.0f} MB of memory, "
        f"version {trial.version}"
    )


@policy.command()
@click.argument("text")
@click.option(
    "--inventory",
    "-i",
    "inventory_name",
    envvar="CLAWD_INVENTORY",
    metavar="NAME|PATH",
    help="Try the policy of this inventory.",
    shell_complete=completing("complete_inventory"),
)
@click.option("--file", type=click.Path(path_type=Path), help="Try this file with rules or words instead.")
def test(text: str, inventory_name: str | None, file: Path | None) -> None:
    """Show what would become of TEXT as a question and as an answer, and by which rules.

    The guard model is not asked. Exit code 2 if something would be hidden or blocked.
    """
    from inventory.policy_files.assembly import assembled

    if file is not None:
        declared = policy_of(file)
    elif inventory_name is not None:
        loaded = loaded_from(inventory_name)
        if loaded.inventory.policy is None:
            raise ClawdError(f"{loaded.path}: declares no policy", advice="add `policy:`, or pass --file")
        declared = assembled(loaded.inventory.policy)
    else:
        raise click.UsageError("pass --inventory or --file")
    [found] = tried_or_refused(declared, (text,)).texts
    changed = False
    for name, result, rules in (
        ("question", found.question, found.in_question),
        ("answer", found.answer, found.in_answer),
    ):
        changed = changed or result != text
        click.echo(f"{name}: {'blocked' if result is None else result}")
        for rule in rules:
            click.echo(f"  {described(rule)}")
    if changed:
        sys.exit(2)


@policy.command()
@click.argument("message", type=click.IntRange(1, 10**18), required=False, metavar="[MESSAGE-ID]")
@run_options
@click.option(
    "--last",
    type=click.IntRange(1, 10_000),
    default=20,
    show_default=True,
    help="Number of records to show of each host.",
)
def why(message: int | None, last: int, **given: Any) -> None:
    """Show by which rules and versions a message was changed or blocked, from the journals of the bots.

    MESSAGE-ID is the number of the message in the bot's log; without it, the last records are shown.
    """
    options = RunOptions(**given)
    with running("policy why", options) as (run, _):
        from provision import pipeline

        records, unreachable = pipeline.policy_records(run, message, last)
    if options.as_json:
        from dataclasses import asdict

        print_json({host: [asdict(each) for each in found] for host, found in records.items()})
    else:
        for host, found in records.items():
            for each in found:
                entry = f", entry {each.entry}" if each.entry else ""
                click.echo(
                    f"{host} {each.time} {each.stage} of {each.message}: {each.action} by rule {each.rule}"
                    f"{entry}, {each.times} times, version {each.version}"
                )
        if not any(records.values()):
            click.echo("no rule has matched", err=True)
    if unreachable:
        sys.exit(1)


def policy_of(file: Path) -> AssembledPolicy:
    """Return the policy that consists of one file. Raises `ClawdError` when it cannot be read."""
    from inventory.policy_files.assembly import assembled
    from inventory.sections.policy import ContentPolicy, WordList

    absolute = file.expanduser().absolute()
    if file.suffix in (".yml", ".yaml"):
        return assembled(ContentPolicy(files=(absolute,)))
    return assembled(ContentPolicy(words=(WordList(name="words", file=absolute),)))


def tried_or_refused(declared: AssembledPolicy, texts: tuple[str, ...] = ()) -> PolicyTrial:
    """Return the trial of a policy. Raises `ClawdError` with all of its mistakes."""
    from inventory.policy_files.assembly import hinted
    from inventory.policy_files.trial import tried

    if declared.problems:
        raise ClawdError("\n".join(map(hinted, declared.problems)))
    trial = tried(declared.text(), texts)
    if trial.problems:
        raise ClawdError("\n".join(trial.problems), advice="correct or remove these entries")
    return trial


def described(rule: FoundRule) -> str:
    """Return a rule that a text matches, in words."""
    entry = f", entry {rule.entry}" if rule.entry else ""
    shadow = " (shadow)" if rule.shadow else ""
    return f"{rule.action}{shadow} by rule {rule.rule}{entry}: {rule.text}"
