"""The command `model quantize`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from commands.model_tools.arguments import (
    force_option,
    json_option,
    output_option,
    requantize_option,
)
from commands.model_tools.computing import computing
from commands.options import CommandWithExamples
from commands.running import in_json, print_json
from inventory.errors import ClawdError
from provision.model_tools.kinds import KINDS

if TYPE_CHECKING:
    from provision.model_tools.quantisation import ConversionTarget, Quantisation

EXAMPLES = """Examples:
  clawd-provision model quantize qwen2.5-1.5b-f16.gguf --to Q4_K_M       writes qwen2.5-1.5b-q4_k_m.gguf
  clawd-provision model quantize model-q8_0.gguf --to Q4_0 --requantize  the source has lost precision already
  clawd-provision model quantize Qwen2.5-1.5B-Instruct/ --to Q4_K_M --python ~/converter/bin/python
"""


@click.command(cls=CommandWithExamples, epilog=EXAMPLES)
@click.argument("source", type=click.Path(path_type=Path), metavar="FILE|FOLDER")
@click.option(
    "--to",
    "kind",
    type=click.Choice(KINDS, case_sensitive=False),
    required=True,
    help="Quantisation to write.",
)
@output_option
@requantize_option
@click.option(
    "--python",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Python with PyTorch and Transformers, for a folder of safetensors.",
)
@click.option("--trust-code", is_flag=True, help="Accept a folder with code, which the converter may run.")
@force_option
@json_option
def quantize(source: Path, kind: str, as_json: bool, **given: Any) -> None:
    """Write a model in another quantisation, with llama.cpp.

    From a GGUF file, or from a folder of safetensors with llama.cpp's converter. The file appears when it is
    complete. How much quality it costs: `model evaluate`.
    """
    from provision.model_tools import quantisation

    with in_json(as_json):
        path = given["output"] or quantisation.default_target(source, kind)
        target = quantisation.ConversionTarget(path, kind, given["force"])
        if source.is_dir():
            made = from_folder(source, target, given["python"], trust_code=given["trust_code"])
        else:
            allow(source, requantize=given["requantize"])
            with computing() as (worker, progress):
                made = quantisation.quantise(source, target, worker, progress)
    if as_json:
        print_json(made.to_json())
        return
    from provision.reporting.model_tools.quantisation import show_quantisation
    from provision.reporting.terminal import stdout_console

    show_quantisation(stdout_console(), made)


def from_folder(
    folder: Path, target: ConversionTarget, python: Path | None, *, trust_code: bool
) -> Quantisation:
    """Return the quantisation of a folder of safetensors."""
    from provision.artifacts.converter import converter
    from provision.local.cache import Cache
    from provision.model_tools import quantisation, safetensors

    safetensors.check_folder(folder, trust_code=trust_code)
    python = safetensors.check_python(python)
    with computing() as (worker, progress):
        program = converter(Cache.default(), progress)
        return quantisation.quantise_folder(
            folder, target, worker, safetensors.Converter(program, python), progress
        )


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
