"""The command `model evaluate`."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from commands.model_tools.arguments import json_option, threads_option
from commands.model_tools.computing import computing
from commands.options import CommandWithExamples
from commands.running import in_json, print_json

if TYPE_CHECKING:
    from provision.model_tools.evaluation import Language

EXAMPLES = """Examples:
  clawd-provision model evaluate model-f16.gguf model-q8_0.gguf model-q4_k_m.gguf
  clawd-provision model evaluate old.gguf new.gguf --text questions.txt --plot compared.svg
"""


@click.command(cls=CommandWithExamples, epilog=EXAMPLES)
@click.argument("files", type=click.Path(path_type=Path), metavar="FILE...", nargs=-1, required=True)
@click.option(
    "--text",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Text to predict, in UTF-8; by default a short one of the program.",
)
@click.option(
    "--language",
    type=click.Choice(["en", "zh"]),
    default="en",
    show_default=True,
    help="Language of the program's own text and questions.",
)
@click.option(
    "--tokens",
    type=click.IntRange(512, 1_000_000),
    default=4096,
    show_default=True,
    help="Read at most this many tokens of the text.",
)
@click.option(
    "--runs",
    type=click.IntRange(1, 100),
    default=3,
    show_default=True,
    help="Measurements of each speed, of which the median is shown.",
)
@threads_option
@click.option(
    "--plot", type=click.Path(path_type=Path), metavar="FILE", help="Write a plot as SVG to this file, too."
)
@json_option
def evaluate(
    files: tuple[Path, ...], plot: Path | None, as_json: bool, language: Language, **measured: object
) -> None:
    """Measure models: perplexity, questions, size, memory, speed of prompt and generation.

    With several files they are compared side by side, later ones with the first.
    """
    from provision.model_tools import evaluation
    from provision.model_tools.output_file import written

    settings = evaluation.EvaluationSettings(language, **measured)  # type: ignore[arg-type]
    # A plot that cannot be written is reported before minutes of measurements.
    target = nullcontext() if plot is None else written(plot, replace=True)
    with in_json(as_json), target as partial:
        with computing() as (worker, progress):
            found = evaluation.evaluate(files, settings, worker, progress)
        if partial is not None:
            from provision.reporting.model_tools.plot import plot as drawn

            partial.write_text(drawn(found), encoding="utf-8")
    if as_json:
        print_json({"evaluations": [item.to_json() for item in found]})
        return
    from provision.reporting.model_tools.comparison import show_comparison
    from provision.reporting.terminal import stdout_console

    show_comparison(stdout_console(), found)
