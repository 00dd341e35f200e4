"""clawd-provision: turn bare Linux servers into a team's AI assistant.

A command parses its options, makes one call, prints the outcome, and exits with:
0 done, 1 error, 2 changes or a verification pending, 3 drift, 4 rolled back, 5 lock held, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import click

from commands.chat import chat
from commands.completion import completion
from commands.console import console
from commands.hosts import drift, history, plan, remove, up, verify
from commands.inventory import inventory
from commands.model import model
from commands.options import GroupWithExamples
from commands.policy import policy
from commands.running import INTERRUPTED, Trail
from commands.sandbox import sandbox
from inventory.errors import ClawdError, with_hint
from provision.reporting.terminal import OutputError, check_surroundings, flush, prepare_streams

EXAMPLES = """Examples:
  clawd-provision sandbox up                  start a throwaway Debian host on this machine
  clawd-provision up -i sandbox               install and start the bots on it
  clawd-provision chat -i sandbox             chat with the bot
  clawd-provision console link -i sandbox     print a link to chat in the browser
  clawd-provision plan -i prod                show what would change (exit code 2 if something would)
  clawd-provision up -i prod --limit bot1     apply to one host only
  clawd-provision drift -i prod               find hosts that were changed by hand (exit code 3)
  clawd-provision verify -i prod --json       run every check on every host
  clawd-provision remove -i prod --limit bot2 remove everything from a host except its data
  clawd-provision completion bash             print the script for Tab completion
"""


@click.group(cls=GroupWithExamples, epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="clawd-provision")
def program() -> None:
    """Turn bare Linux servers into a team's AI assistant and maintain them."""


for command in (
    up,
    remove,
    plan,
    drift,
    verify,
    history,
    completion,
    chat,
    console,
    inventory,
    policy,
    model,
    sandbox,
):
    program.add_command(command)


def main() -> NoReturn:
    """Run the program and turn errors and Ctrl-C into messages and exit codes."""
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
