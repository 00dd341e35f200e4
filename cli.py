"""clawd-provision: turn bare Linux servers into a team's AI assistant.

A command parses its options, makes one call, prints the outcome, and exits with:
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

from inventory.errors import ClawdError, with_hint

if TYPE_CHECKING:
    from inventory.load import LoadedInventory
    from provision.plan import Plan
    from provision.reporting.display import TerminalProgress
    from provision.reporting.terminal import View
    from provision.run import Outcome, Run

Command = Callable[..., Any]
INTERRUPTED = 130
COMPLETES = "_CLAWD_PROVISION_COMPLETE"
"""Environment variable with which a shell requests completions; click derives it from the program's name."""


class Examples(click.Group):
    """A group whose help ends with examples, printed as written."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples without wrapping them."""
        if self.epilog:
            formatter.write("\n" + self.epilog)


EXAMPLES = """Examples:
  clawd-provision sandbox up                  start a throwaway Debian host on this machine
  clawd-provision up -i sandbox               install and start the bots on it
  clawd-provision chat -i sandbox             chat with the bot
  clawd-provision plan -i prod                show what would change (exit code 2 if something would)
  clawd-provision up -i prod --limit bot1     apply to one host only
  clawd-provision drift -i prod               find hosts that were changed by hand (exit code 3)
  clawd-provision verify -i prod --json       run every check on every host
  clawd-provision remove -i prod --limit bot2 remove everything from a host except its data
  clawd-provision completion bash             print the script for Tab completion
"""


@click.group(cls=Examples, epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="clawd-provision")
def program() -> None:
    """Turn bare Linux servers into a team's AI assistant and maintain them."""


class Trail:
    """The log of the current command, and the warnings that it printed."""

    log: Path | None = None
    warnings: Sequence[str] = ()


def completing(name: str) -> Callable[..., Any]:
    """Return a function of `provision.completion`, which is imported only for a completion."""

    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> Any:
        from provision import completion

        return getattr(completion, name)(context, parameter, incomplete)

    return complete


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


DATA = (
    "conversations, the database and its backups, metrics, dashboards, log lines, Docker's images and "
    "volumes, logs of bans and updates, logins of operators (but not their home folders); the plan lists "
    "each with path and size"
)


def adopt_option(function: Command) -> Command:
    """Add the option `--adopt` of commands that change hosts, or plan to."""
    return click.option(
        "--adopt", is_flag=True, help="Take over hosts of another project or with another authority."
    )(function)


@program.command()
@run_options
@diff_option
@adopt_option
@click.option("--yes", "-y", is_flag=True, help="Apply without asking.")
@click.option("--no-verify", is_flag=True, help="Do not run the checks after a change.")
@click.option(
    "--purge", is_flag=True, help=f"Delete the data of components that are no longer declared: {DATA}."
)
def up(yes: bool, no_verify: bool, **options: Any) -> NoReturn:
    """Apply the inventory to the hosts. Show the plan and ask for confirmation first."""
    with running("up", **options) as (run, screen):
        from provision import pipeline

        outcome = pipeline.up(run, asking(screen, yes, options), verify=not no_verify)
    finish(outcome, screen, options, plan_shown=True)


@program.command()
@run_options
@diff_option
@adopt_option
@click.option("--yes", "-y", is_flag=True, help="Remove without asking.")
@click.option(
    "--purge", is_flag=True, help=f"Delete data as well, including what earlier removals kept: {DATA}."
)
def remove(yes: bool, **options: Any) -> NoReturn:
    """Remove components from hosts, but keep data. Show the plan and ask for confirmation first."""
    with running("remove", **options) as (run, screen):
        from provision import pipeline

        outcome = pipeline.remove(run, asking(screen, yes, options))
    finish(outcome, screen, options, plan_shown=True)


@program.command()
@run_options
@diff_option
@adopt_option
def plan(**options: Any) -> NoReturn:
    """Show what `up` would change.

    Exit code 2 if something would change, a host is not verified or bots listen on former ports, else 0.
    """
    with running("plan", **options) as (run, screen):
        from provision import pipeline

        outcome = pipeline.plan(run)
    finish(outcome, screen, options)


@program.command()
@run_options
@diff_option
def drift(**options: Any) -> NoReturn:
    """Find hosts that differ from what was last applied. Exit code 3 if one does."""
    with running("drift", **options) as (run, screen):
        from provision import pipeline

        outcome = pipeline.drift(run)
    finish(outcome, screen, options)


@program.command()
@run_options
def verify(**options: Any) -> NoReturn:
    """Run the checks of all components on all hosts, and ask the bots a question. Exit code 1 on failure."""
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
    help="Number of runs to show of each host.",
)
def history(last: int, as_json: bool, **options: Any) -> None:
    """Show who applied what and when, from the journals on the hosts."""
    with running("history", as_json=as_json, **options) as (run, _):
        from provision import pipeline

        entries, unreachable = pipeline.history(run, last)
    if as_json:
        from provision.reporting.as_json import history_json

        trail = trail_of_command()
        print_json(history_json(entries, unreachable, trail.warnings, trail.log))
    else:
        from provision.reporting.display import show_history
        from provision.reporting.terminal import stdout_console

        show_history(stdout_console(), entries, unreachable)
    if unreachable:
        sys.exit(1)


@program.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a script for Tab completion of commands, inventories, hosts and components.

    For bash, in ~/.bashrc: eval "$(clawd-provision completion bash)"
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(program, {}, "clawd-provision", COMPLETES).source())


@program.command()
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


@inventory_group.command()
def schema() -> None:
    """Print the JSON schema of inventories for editors."""
    from inventory.reading.schema import json_schema

    print_json(json_schema())


@inventory_group.command()
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


@inventory_group.command()
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


@program.group()
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
    import os

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


# Around the commands


def loaded_from(name: str) -> LoadedInventory:
    """Return the inventory `name`, checked with the rules of inventories and of components."""
    from deploys.ports import RULES
    from inventory.inventory_path import find
    from inventory.load import load

    return load(find(name), more=RULES)


def where_ssh_leads(loaded: LoadedInventory) -> LoadedInventory:
    """Return the inventory with the addresses of its hosts from `~/.ssh/config`."""
    from provision.ssh.config import SshConfig
    from provision.ssh.route import with_addresses

    return with_addresses(loaded, SshConfig())


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


def asking(screen: TerminalProgress, yes: bool, options: Mapping[str, Any]) -> Callable[[Plan], bool]:
    """Return a function that shows a plan and asks whether to apply it, unless `yes` is set.

    With JSON on standard output, the plan is printed on standard error.
    """
    from provision.reporting.display import show_plan
    from provision.reporting.terminal import stderr_console, stdout_console

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
    """Load the inventory, open the log of the run and start the progress display."""
    from provision.local import concurrency

    concurrency.enable()
    from provision.local.run_log import RunLog
    from provision.reporting.display import TerminalProgress
    from provision.reporting.known_warnings import KnownWarnings
    from provision.reporting.terminal import stderr_console
    from provision.run import Run
    from provision.selection import Selection

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
            from provision.reporting.internal_errors import unforeseen

            log.exception(f"{command} failed")
            raise unforeseen(error, log.path) from error


@contextmanager
def in_json(wanted: bool) -> Iterator[None]:
    """Print an error or an interrupt as JSON on standard output as well, if JSON is wanted."""
    try:
        yield
    except ClawdError as error:
        if wanted:
            from provision.reporting.as_json import error_json

            trail = trail_of_command()
            print_json(error_json(error, trail.warnings, trail.log))
        raise
    except (KeyboardInterrupt, click.Abort):
        if wanted:
            from provision.reporting.as_json import interrupted_json

            trail = trail_of_command()
            print_json(interrupted_json(INTERRUPTED, trail.warnings, trail.log))
        raise


def trail_of_command() -> Trail:
    """Return the log and the warnings of the current command."""
    return click.get_current_context().ensure_object(Trail)


def view_of(options: Mapping[str, Any]) -> View:
    """Return the level of output that the options select."""
    from provision.reporting.terminal import View

    names = ("quiet", "verbose", "differences")
    return View(**{name: options[name] for name in names if name in options})


def finish(
    outcome: Outcome, screen: TerminalProgress, options: Mapping[str, Any], *, plan_shown: bool = False
) -> NoReturn:
    """Print the outcome and exit with its code."""
    if options["as_json"]:
        from provision.reporting.as_json import outcome_json

        trail = trail_of_command()
        print_json(outcome_json(outcome, trail.warnings, trail.log))
    else:
        from provision.reporting.display import show_outcome
        from provision.reporting.terminal import stdout_console

        if not plan_shown:
            screen.say_repeated()
        show_outcome(stdout_console(), outcome, plan_shown=plan_shown, view=view_of(options))
    sys.exit(int(outcome.exit))


def show_sandbox(hosts: Any) -> None:
    """Print the hosts of the sandbox."""
    for host in hosts:
        click.echo(f"{host.name}  {host.address}  {host.release}  {host.backend}  {host.state}")


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


def split(option: str, values: tuple[str, ...]) -> tuple[str, ...]:
    """Return names given as `a,b` or repeated. Raises `ClawdError` for none, which would mean all."""
    names = tuple(name for value in values for name in value.split(",") if name)
    if values and not names:
        raise ClawdError(
            f"{option} has no value", advice=f"write a name after {option}, or remove it to select all"
        )
    return names


def print_json(value: Any) -> None:
    """Print JSON on standard output."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def main() -> NoReturn:
    """Run the program and turn errors and Ctrl-C into messages and exit codes."""
    from provision.reporting.terminal import flush, prepare_streams

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
    """Run the command line and return the exit code; print the reason of a failure on standard error."""
    from provision.reporting.terminal import OutputError, check_surroundings

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
        click.echo(with_hint(f"cannot read standard input: {error}", "type or pipe UTF-8 text"), err=True)
        return 1
    except Exception as error:
        from provision.reporting.internal_errors import kept_in_log, unforeseen

        click.echo(f"{unforeseen(error, kept_in_log(error))}", err=True)
        return 1
    return 0


if __name__ == "__main__":
    main()
