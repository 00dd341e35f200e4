"""The command `model prune`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from commands.model_tools.arguments import (
    force_option,
    json_option,
    model_argument,
    output_option,
    requantize_option,
)
from commands.model_tools.computing import computing
from commands.model_tools.quantize import allow
from commands.options import CommandWithExamples
from commands.running import in_json, print_json
from provision.model_tools.kinds import KINDS

EXAMPLES = """Examples:
  clawd-provision model prune model-f16.gguf --share 0.3               writes model-pruned30-q8_0.gguf
  clawd-provision model prune model-f16.gguf --share 0.5 --to Q4_K_M
"""


@click.command(cls=CommandWithExamples, epilog=EXAMPLES)
@model_argument
@click.option(
    "--share",
    type=click.FloatRange(0, 0.95, min_open=True),
    default=0.3,
    show_default=True,
    help="Part of the weights of each tensor that becomes zero, the smallest first.",
)
@click.option(
    "--to",
    "kind",
    type=click.Choice(KINDS, case_sensitive=False),
    default="Q8_0",
    show_default=True,
    help="Quantisation to write.",
)
@output_option
@requantize_option
@force_option
@json_option
def prune(file: Path, share: float, as_json: bool, requantize: bool, **written: Any) -> None:
    """Prune a model by magnitude, tensor by tensor, then quantise it.

    The smallest weights of attention and feed-forward become zero; embeddings, norms and output are kept.
    This costs quality and brings neither speed nor space with llama.cpp; measure it with `model evaluate`.
    """
    from provision.model_tools.pruning import prune as pruned
    from provision.model_tools.quantisation import ConversionTarget, default_target

    kind: str = written["kind"]
    with in_json(as_json):
        allow(file, requantize=requantize)
        path = written["output"] or default_target(file, kind, f"-pruned{share * 100:.0f}")
        with computing() as (worker, progress):
            made = pruned(file, ConversionTarget(path, kind, written["force"]), share, worker, progress)
    if as_json:
        print_json(made.to_json())
        return
    from provision.reporting.model_tools.pruning import show_pruning
    from provision.reporting.terminal import stdout_console

    show_pruning(stdout_console(), made)
