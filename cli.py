"""clawd-provision: bare Linux servers become a team's AI assistant.

Parses, makes one call, shows what came of it, and exits:
0 done, 1 error, 2 changes or a verification pending, 3 drift, 4 rolled back, 5 lock held, 130 interrupted.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from inventory.errors import ClawdError

if TYPE_CHECKING:
    from inventory.load import Loaded
    from provision.pipeline import Outcome, Run
    from provision.plan import Plan
    from provision.report import TerminalProgress
    from provision.terminal import View

Command = Callable[..., Any]
INTERRUPTED = 130
COMPLETES = "_CLAWD_PROVISION_COMPLETE"
"""Variable by which a shell asks for completions; click derives it from the program's name."""


class Examples(click.Group):
    """A group whose help ends in examples, printed as written."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the examples without re-wrapping them."""
        if self.epilog:
            formatter.write("\n" + self.epilog)


EXAMPLES = """Examples:
  clawd-provision sandbox up                  start a throwaway Debian host on this machine
  clawd-provision up -i sandbox               make it serve the bots
  clawd-provision chat -i sandbox             talk to the bot
  clawd-provision plan -i prod                what would change (exit code 2 when something would)
  clawd-provision up -i prod --limit bot1     one host only
  clawd-provision drift -i prod               has anybody changed a host by hand? (exit code 3)
  clawd-provision verify -i prod --json       every check on every host
  clawd-provision remove -i prod --limit bot2 take everything off a host, but keep its data
  clawd-provision completion bash             what makes Tab complete inventories, hosts and components
"""


@click.group(cls=Examples, epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="clawd-provision")
def program() -> None:
    """Makes bare Linux servers a team's AI assistant, and keeps them so."""


class Trail:
    """What the command at hand has left so far: its log, and the warnings that it printed."""

    log: Path | None = None
    warnings: Sequence[str] = ()


def completing(name: str) -> Callable[..., Any]:
    """Return a function of `provision.completion`, which is imported only when the shell asks."""

    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> Any:
        from provision import completion

        return getattr(completion, name)(context, parameter, incomplete)

    return complete


def inventory_option(function: Command) -> Command:
    """Add the option that every command about hosts has."""
    return click.option(
        "--inventory", "-i", "inventory_name", required=True, envvar="CLAWD_INVENTORY", metavar="NAME|PATH",
        help="An inventory file, or its name: `prod` is inventory/prod.yml here or in a parent folder.",
        shell_complete=completing("complete_inventory"),
    )(function)  # fmt: skip


def run_options(function: Command) -> Command:
    """Add the options of commands that go over hosts."""
    for option in (
        click.option(
            "--verbose", "-v", is_flag=True, help="Print every operation, every check and known warnings."
        ),
        click.option(
            "--quiet", "-q", is_flag=True, help="Print no progress and no differences, only the outcome."
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
        show_default=True, help="How much to print of the lines of files that would differ.",
    )(function)  # fmt: skip


DATA = (
    "conversations, the database and its backups, metrics, dashboards, log lines, Docker's images and "
    "volumes, logs of bans and updates, logins of operators (their homes stay); the plan lists each with "
    "path and size"
)


def adopt_option(function: Command) -> Command:
    """The option of commands that change hosts, or plan to."""
    return click.option(
        "--adopt", is_flag=True, help="Take over hosts of another project, or that trust another authority."
    )(function)


@program.command()
@run_options
@diff_option
@adopt_option
@click.option("--yes", "-y", is_flag=True, help="Apply without asking.")
@click.option("--no-verify", is_flag=True, help="Do not run the checks after a change.")
@click.option(
    "--purge", is_flag=True, help=f"Components that are no longer declared lose their data as well: {DATA}."
)
def up(yes: bool, no_verify: bool, **options: Any) -> NoReturn:
    """Make the hosts what the inventory says; shows the plan and asks first."""
    with running("up", **options) as (run, screen):
        from provision import pipeline

        outcome = pipeline.up(run, asking(screen, yes, options), verify=not no_verify)
    finish(outcome, screen, options, plan_shown=True)


@program.command()
@run_options
@diff_option
@adopt_option
@click.option("--yes", "-y", is_flag=True, help="Remove without asking.")
@click.option("--purge", is_flag=True, help=f"Data as well, also what earlier removals have kept: {DATA}.")
def remove(yes: bool, **options: Any) -> NoReturn:
    """Take components off hosts (all of them unless limited); shows what goes and asks first. Data stays."""
    with running("remove", **options) as (run, screen):
        from provision import pipeline

        outcome = pipeline.remove(run, asking(screen, yes, options))
    finish(outcome, screen, options, plan_shown=True)


@program.command()
@run_options
@diff_option
@adopt_option
def plan(**options: Any) -> NoReturn:
    """Show what `up` would change. Exit code 2 when something would, or when a host's last verification did
    not pass; 0 when all is as declared.
    """
    with running("plan", **options) as (run, screen):
        from provision import pipeline

        outcome = pipeline.plan(run)
    finish(outcome, screen, options)


@program.command()
@run_options
@diff_option
def drift(**options: Any) -> NoReturn:
    """Find hosts that differ from what was last applied. Exit code 3 when one does."""
    with running("drift", **options) as (run, screen):
        from provision import pipeline

        outcome = pipeline.drift(run)
    finish(outcome, screen, options)


@program.command()
@run_options
def verify(**options: Any) -> NoReturn:
    """Run every component's checks on every host, and ask the bots a question. Exit code 1 when one fails."""
    with running("verify", **options) as (run, screen):
        from provision import pipeline

        outcome = pipeline.verify(run)
    finish(outcome, screen, options)


@program.command()
@run_options
@click.option(
    "--last",
    type=click.IntRange(1, 10_000),
    default=10,
    show_default=True,
    help="How many runs of every host.",
)
def history(last: int, as_json: bool, **options: Any) -> None:
    """Who applied what and when, from the hosts' own journals."""
    with running("history", as_json=as_json, **options) as (run, _):
        from provision import pipeline

        entries = pipeline.history(run, last)
    if as_json:
        from provision.report_json import history_json

        trail = trail_of_command()
        print_json(history_json(entries, trail.warnings, trail.log))
    else:
        from provision.report import show_history
        from provision.terminal import stdout_console

        show_history(stdout_console(), entries)


@program.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that makes a shell complete commands, inventories, hosts and components.

    For bash, in ~/.bashrc: eval "$(clawd-provision completion bash)"
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(program, {}, "clawd-provision", COMPLETES).source())


@program.command()
@inventory_option
@click.option("--message", "-m", help="Ask this and leave; otherwise a conversation, ended by Ctrl-D.")
@click.option("--user", default=None, help="Who is asking; your login name by default.")
@click.option("--conversation", default="laptop", show_default=True, help="Which conversation to go on with.")
def chat(inventory_name: str, message: str | None, user: str | None, conversation: str) -> None:
    """Talk to the deployed bot through its console."""
    import getpass

    from provision.chat import ask, console_of

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


@program.group(name="inventory")
def inventory_group() -> None:
    """Check inventories and keep secrets in them."""


@inventory_group.command()
@inventory_option
def check(inventory_name: str) -> None:
    """Report every mistake of an inventory with its place, and what hosts would hold; touches no host."""
    from provision import capacity
    from provision.assign import Selection, assign
    from provision.report_capacity import show_capacity
    from provision.terminal import stdout_console

    loaded = loaded_from(inventory_name)
    for host, assigned in assign(loaded.inventory, Selection()).items():
        click.echo(f"{host}: {', '.join(item.component.name for item in assigned)}")
    show_overrides(loaded)
    hosts = loaded.inventory.hosts
    show_capacity(stdout_console(), [capacity.capacity_of(loaded.inventory, host) for host in hosts])
    capacity.refuse(loaded.inventory, hosts)


@inventory_group.command()
def schema() -> None:
    """Print the JSON schema of inventories, for editors."""
    from inventory.schema import json_schema

    print_json(json_schema())


@inventory_group.command()
@click.option("--output", type=click.Path(path_type=Path), default=None, help="Where the key is written.")
def keygen(output: Path | None) -> None:
    """Make the age key with which secrets in inventories are encrypted."""
    from inventory.secrets import default_key_file, generate_identity

    target = output or default_key_file()
    click.echo(
        f"public key {generate_identity(target)}; the private key is in {target}: keep a copy in a safe place"
    )


@inventory_group.command()
@click.option("--recipient", multiple=True, help="age public key; your own by default (repeat for a team).")
def encrypt(recipient: tuple[str, ...]) -> None:
    """Read a secret from standard input (or ask) and print it encrypted, as YAML."""
    from inventory.secrets import encrypt as encrypted
    from inventory.secrets import own_recipients
    from provision.terminal import check_text, read_stdin

    value = (
        check_text(click.prompt("secret", hide_input=True, err=True), "the secret")
        if sys.stdin.isatty()
        else read_stdin().rstrip("\n")
    )
    if not value.strip():
        raise ClawdError(
            "there is no secret on standard input",
            advice='pipe it in (`printf %s "$TOKEN" | clawd-provision inventory encrypt`), or type it',
        )
    armored = encrypted(value, recipient or own_recipients())
    click.echo("!age |\n" + "\n".join(f"  {line}" for line in armored.strip().splitlines()))


@program.group()
def sandbox() -> None:
    """Throwaway Debian hosts on this machine."""


@sandbox.command(name="up")
@click.option(
    "--hosts",
    type=click.IntRange(1, 99),
    default=1,
    show_default=True,
    help="bot1, bot2, … up to this number.",
)
@click.option(
    "--release",
    multiple=True,
    type=click.Choice(["bookworm", "trixie"]),
    help="Repeat to give each host its own. A host of another release is replaced, with its data; without "
    "this, hosts that exist keep theirs and new ones are bookworm.",
)
def sandbox_up(hosts: int, release: tuple[str, ...]) -> None:
    """Start hosts; those that run already are left as they are."""
    from provision import sandbox as machines
    from provision.report import TerminalProgress
    from provision.terminal import stderr_console

    with TerminalProgress(stderr_console()) as screen:
        screen.step("starting the sandbox")
        started = machines.up(hosts=hosts, releases=release, lasting=True, progress=screen.detail)
    show_sandbox(started)
    inventory = machines.write_inventory(machines.Layout(), machines.status())
    if len(started) > 1:
        click.echo(f"the inventory of these hosts is {inventory}", err=True)


@sandbox.command(name="status")
def sandbox_status() -> None:
    """Show the hosts."""
    from provision import sandbox as machines

    show_sandbox(machines.status())


@sandbox.command(name="ssh", context_settings={"allow_interspersed_args": False})
@click.argument("host", default="bot1")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def sandbox_ssh(host: str, command: tuple[str, ...]) -> NoReturn:
    """Log in to a host, or run a command there."""
    import os

    from provision import sandbox as machines

    words = [*machines.ssh_command(host), *command]
    os.execvp(words[0], words)  # noqa: S606 - ssh takes over this terminal


@sandbox.command(name="down")
@click.option("--purge", is_flag=True, help="Its keys, secrets and models as well.")
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="Every sandbox of this checkout, and what killed runs of any left behind on this machine.",
)
def sandbox_down(purge: bool, everything: bool) -> None:
    """Stop and remove the hosts and everything made for them."""
    from provision import sandbox as machines

    machines.down(purge=purge)
    click.echo("the sandbox is gone", err=True)
    for folder in machines.clear() if everything else ():
        click.echo(f"and the one in {folder}", err=True)


# Around the commands


def loaded_from(name: str) -> Loaded:
    """The inventory `name`, in which the components fit together, too."""
    from deploys.ports import RULES
    from inventory.find import find
    from inventory.load import load

    return load(find(name), more=RULES)


def where_ssh_leads(loaded: Loaded) -> Loaded:
    """The inventory with the addresses that its hosts have in `~/.ssh/config`."""
    from provision.ssh import with_addresses
    from provision.ssh_config import SshConfig

    return with_addresses(loaded, SshConfig())


def show_overrides(loaded: Loaded) -> None:
    """Prints which of the user's templates take the place of ours. Raises `ClawdError` where one cannot."""
    from deploys.ops.templates import HINT, overrides
    from provision.supply import override_folder

    folder = override_folder(loaded)
    found = overrides(folder)
    for item in found:
        if item.replaces:
            click.echo(f"template {folder}/{item.name} takes the place of the program's own")
        elif item.idle:
            hint = (
                f"did you mean {item.nearest}?" if item.nearest else "remove it, or include it from another"
            )
            click.echo(f"template {folder}/{item.name} is read by nothing: {hint}", err=True)
    problems = [item.problem for item in found if item.problem and not item.idle]
    if problems:
        raise ClawdError("\n".join(problems), advice=HINT)


def asking(screen: TerminalProgress, yes: bool, options: Mapping[str, Any]) -> Callable[[Plan], bool]:
    """Return what shows a plan, and asks whether to apply it unless that was answered before.

    Where standard output is for JSON, the plan stands on standard error.
    """
    from provision.report import show_plan
    from provision.terminal import stderr_console, stdout_console

    view = view_of(options)

    def confirm(plan: Plan) -> bool:
        screen.pause()
        screen.say_repeated()
        console = stderr_console() if options["as_json"] else stdout_console()
        show_plan(console, plan, "none" if view.quiet else view.differences)
        agreed = yes or confirmed(plan)
        screen.resume()
        return agreed

    return confirm


@contextmanager
def running(
    command: str,
    *,
    inventory_name: str,
    limit: tuple[str, ...],
    tags: tuple[str, ...],
    skip_unreachable: bool,
    as_json: bool,
    purge: bool = False,
    adopt: bool = False,
    **shown: Any,
) -> Iterator[tuple[Run, TerminalProgress]]:
    """Load the inventory and open the run's log and its lines on the screen."""
    from provision import concurrency

    concurrency.enable()
    from provision.assign import Selection
    from provision.known_warnings import KnownWarnings
    from provision.pipeline import Run
    from provision.report import TerminalProgress
    from provision.runlog import RunLog
    from provision.terminal import stderr_console

    with in_json(as_json), RunLog(command) as log:
        trail = trail_of_command()
        trail.log = log.path
        try:
            loaded = where_ssh_leads(loaded_from(inventory_name))
            selection = Selection(split("--limit", limit), split("--tags", tags))
            known = KnownWarnings(loaded.path)
            with TerminalProgress(stderr_console(), view_of(shown), known.is_new) as screen:
                trail.warnings = screen.warnings
                yield Run(loaded, selection, screen, log, skip_unreachable, purge, adopt), screen
            known.save()
        except (ClawdError, KeyboardInterrupt, click.ClickException, click.Abort):
            raise
        except Exception as error:
            from provision.faults import unforeseen

            log.exception(f"{command} failed")
            raise unforeseen(error, log.path) from error


@contextmanager
def in_json(wanted: bool) -> Iterator[None]:
    """Has what ends a command too early stand on standard output, too, where JSON is expected there."""
    try:
        yield
    except ClawdError as error:
        if wanted:
            from provision.report_json import error_json

            trail = trail_of_command()
            print_json(error_json(error, trail.warnings, trail.log))
        raise
    except (KeyboardInterrupt, click.Abort):
        if wanted:
            from provision.report_json import interrupted_json

            trail = trail_of_command()
            print_json(interrupted_json(INTERRUPTED, trail.warnings, trail.log))
        raise


def trail_of_command() -> Trail:
    """Return what the command at hand has left so far."""
    return click.get_current_context().ensure_object(Trail)


def view_of(options: Mapping[str, Any]) -> View:
    """Return how much the options ask to show."""
    from provision.terminal import View

    names = ("quiet", "verbose", "differences")
    return View(**{name: options[name] for name in names if name in options})


def finish(
    outcome: Outcome, screen: TerminalProgress, options: Mapping[str, Any], *, plan_shown: bool = False
) -> NoReturn:
    """Print the outcome and exit with its code."""
    if options["as_json"]:
        from provision.report_json import outcome_json

        trail = trail_of_command()
        print_json(outcome_json(outcome, trail.warnings, trail.log))
    else:
        from provision.report import show_outcome
        from provision.terminal import stdout_console

        if not plan_shown:
            screen.say_repeated()
        show_outcome(stdout_console(), outcome, plan_shown=plan_shown, view=view_of(options))
    sys.exit(int(outcome.exit))


def show_sandbox(hosts: Any) -> None:
    """Prints the sandbox's hosts."""
    for host in hosts:
        click.echo(f"{host.name}  {host.address}  {host.release}  {host.backend}  {host.state}")


def confirmed(plan: Plan) -> bool:
    """Asks whether to apply. Raises `ClawdError` where nobody can answer."""
    from provision.concurrency import typed_line

    if not sys.stdin.isatty():
        raise ClawdError(
            "the plan cannot be confirmed: standard input is not a terminal",
            advice="read the plan, then run again with --yes",
        )
    click.echo(f"Apply {plan.changes} changes? [y/N]: ", nl=False, err=True)
    return typed_line().strip().lower() in {"y", "yes"}


def say(answer: Iterator[str]) -> None:
    """Prints an answer as it comes; a line that was begun is ended, whatever happens."""
    begun = False
    try:
        for piece in answer:
            begun = True
            click.echo(piece, nl=False)
    finally:
        if begun:
            click.echo()


def typed_lines() -> Iterator[str]:
    """What a person types, line by line, until Ctrl-D."""
    while True:
        try:
            text = click.prompt("you", prompt_suffix="> ", err=True)
        except click.Abort:
            return
        yield text


def split(option: str, values: tuple[str, ...]) -> tuple[str, ...]:
    """Names given as `a,b` or repeated; an option without any is refused: none would mean everything."""
    names = tuple(name for value in values for name in value.split(",") if name)
    if values and not names:
        raise ClawdError(
            f"{option} names nothing", advice=f"write a name after {option}, or leave it out to mean all"
        )
    return names


def print_json(value: Any) -> None:
    """Prints JSON on standard output."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def main() -> NoReturn:
    """Run the program: turn errors and Ctrl-C into messages and exit codes."""
    from provision.terminal import flush, prepare_streams

    prepare_streams()
    trail = Trail()
    code = ended(trail)
    if trail.log and "--quiet" not in sys.argv and "-q" not in sys.argv:
        click.echo(f"log: {trail.log}", err=True)
    try:
        flush()
    except ClawdError as error:
        click.echo(f"{error}", err=True)
        code = code or error.exit_code
    sys.exit(code)


def ended(trail: Trail) -> int:
    """Run the command line and return the exit code, with the reason on standard error where it failed."""
    from provision.terminal import OutputError, check_surroundings

    try:
        check_surroundings(sys.argv[1:], os.environ)
        program.main(standalone_mode=False, obj=trail)
    except OutputError as error:
        return error.exit_code  # `flush` raises it again
    except ClawdError as error:
        click.echo(f"{error}", err=True)
        return error.exit_code
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except SystemExit as leaving:
        return int(leaving.code or 0)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return 1  # click's own 2 means pending changes here
    except UnicodeDecodeError as error:
        click.echo(f"standard input cannot be read: {error}\n  → type or pipe UTF-8 text", err=True)
        return 1
    except Exception as error:
        from provision.faults import kept_in_log, unforeseen

        click.echo(f"{unforeseen(error, kept_in_log(error))}", err=True)
        return 1
    return 0


if __name__ == "__main__":
    main()
