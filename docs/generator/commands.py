"""The page of commands and options, from the program's own `--help`."""

from __future__ import annotations

from collections.abc import Iterator

import click
from click.testing import CliRunner

from cli import program
from docs.generator.markdown import block, generated

NAME = "clawd-provision"
HOW = """
What `--help` of every command prints, and the environment variables that options are read from. Exit
codes of all commands: 0 done, 1 error, 2 changes or a verification pending (`plan`, `drift`), 3 drift,
4 rolled back, 5 lock held, 130 interrupted.
"""


def page() -> str:
    """Return the page."""
    parts = [generated("Commands", HOW)]
    for words in commands(program):
        environment = "".join(
            f"\n`{option.opts[0]}` is read from the environment variable `{option.envvar}`, too.\n"
            for option in command_at(words).params
            if isinstance(option.envvar, str)
        )
        parts.append(f"## {' '.join((NAME, *words))}\n\n{block(help_of(words), 'text')}{environment}")
    return "\n".join(parts)


def commands(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the words that call every command, the program itself first."""
    yield words
    for name, inner in sorted(getattr(command, "commands", {}).items()):
        yield from commands(inner, (*words, name))


def command_at(words: tuple[str, ...]) -> click.Command:
    """Return the command that these words call."""
    command: click.Command = program
    for word in words:
        assert isinstance(command, click.Group)
        command = command.commands[word]
    return command


def help_of(words: tuple[str, ...]) -> str:
    """Return what `--help` prints in a terminal of 100 columns."""
    result = CliRunner().invoke(
        program, [*words, "--help"], prog_name=NAME, terminal_width=100, max_content_width=100
    )
    assert result.exit_code == 0, result.output
    return result.output
