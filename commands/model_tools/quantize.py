"""The command `model quantize`."""

from __future__ import annotations

from pathlib import Path

import click

from commands.model_tools.arguments import (
    force_option,
    json_option,
    model_argument,
    output_option,
    requantize_option,
)
from commands.model_tools.computing import computing
from commands.options import CommandWithExamples
from commands.running import in_json, print_json
from inventory.errors import ClawdError
from provision.model_tools.kinds import KINDS

EXAMPLES = """Examples:
  clawd-provision model quantize qwen2.5-1.5b-f16.gguf --to Q4_K_M       writes qwen2.5-1.5b-q4_k_m.gguf
  clawd-provision model quantize model-q8_0.gguf --to Q4_0 --requantize  the source has lost precision already
"""


@click.command(cls=CommandWithExamples, epilog=EXAMPLES)
@model_argument
@click.option(
    "--to",
    "kind",
    type=click.Choice(KINDS, case_sensitive=False),
    required=True,
    help="Quantisation to write.",
)
@output_option
@requantize_option
@force_option
@json_option
def quantize(
    file: Path, kind: str, output: Path | None, requantize: bool, force: bool, as_json: bool
) -> None:
    """Write a model in another quantisation, with llama.cpp.

    The file appears when it is complete. How much quality it costs: `model evaluate`.
    """
    from provision.model_tools import quantisation

    with in_json(as_json):
        allow(file, requantize=requantize)
        path = output or quantisation.default_target(file, kind)
        target = quantisation.ConversionTarget(path, kind, force)
        with computing() as (worker, progress):
            made = quantisation.quantise(file, target, worker, progress)
    if as_json:
        print_json(made.to_json())
        return
    from provision.reporting.model_tools.quantisation import show_quantisation
    from provision.reporting.terminal import stdout_console

    show_quantisation(stdout_console(), made)


def allow(file: Path, *, requantize: bool) -> None:
    """Raise `ClawdError` for a model that is quantised already, or warn if that is allowed."""
    from inventory.model_files.gguf import read_header
    from provision.model_tools.inspection import check_exists
    from provision.model_tools.quantisation import requantises

    check_exists(file)
    if not (kind := requantises(read_header(file))):
        return
    if not requantize:
        raise ClawdError(
            f"{file}: is already quantised ({kind}): quantising it again loses more than from full precision",
            advice="use its F16 or F32 file, or pass --requantize",
        )
    click.echo(
        f"warning: {file} is quantised ({kind}): the result is worse than from full precision", err=True
    )
