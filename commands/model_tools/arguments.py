"""Arguments and options that several model tools have."""

from __future__ import annotations

from pathlib import Path

import click

from commands.options import Command


def model_argument(function: Command) -> Command:
    """Add the argument FILE, a model."""
    return click.argument("file", type=click.Path(path_type=Path), metavar="FILE")(function)


def context_option(function: Command) -> Command:
    """Add the option `--context`."""
    return click.option(
        "--context", type=click.IntRange(256, 1_048_576), default=4096, show_default=True,
        help="Tokens of one conversation (`context_size` in the inventory).",
    )(function)  # fmt: skip


def slots_option(function: Command) -> Command:
    """Add the option `--slots`."""
    return click.option(
        "--slots", type=click.IntRange(1, 64), default=4, show_default=True,
        help="Conversations that are decoded at the same time (`parallel` in the inventory).",
    )(function)  # fmt: skip


def json_option(function: Command) -> Command:
    """Add the option `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(function)


def output_option(function: Command) -> Command:
    """Add the option `--output`."""
    return click.option(
        "--output", "-o", type=click.Path(path_type=Path), metavar="FILE",
        help="File to write; by default next to the model, with the quantisation in its name.",
    )(function)  # fmt: skip


def force_option(function: Command) -> Command:
    """Add the option `--force`."""
    return click.option("--force", is_flag=True, help="Replace the file if it exists.")(function)


def requantize_option(function: Command) -> Command:
    """Add the option `--requantize`."""
    return click.option(
        "--requantize", is_flag=True, help="Accept a model that is quantised already; the result is worse."
    )(function)


def threads_option(function: Command) -> Command:
    """Add the option `--threads`."""
    return click.option(
        "--threads", type=click.IntRange(1, 1024), help="Compute threads; one for each processor by default."
    )(function)
