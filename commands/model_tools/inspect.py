"""The command `model inspect`."""

from __future__ import annotations

from pathlib import Path

import click

from commands.model_tools.arguments import context_option, json_option, model_argument, slots_option
from commands.options import CommandWithExamples
from commands.running import in_json, print_json

EXAMPLES = """Examples:
  clawd-provision model inspect models/qwen2.5-1.5b-instruct-q4_k_m.gguf
  clawd-provision model inspect model.gguf --context 8192 --slots 16   memory of 16 long conversations
"""


@click.command(cls=CommandWithExamples, epilog=EXAMPLES)
@model_argument
@context_option
@slots_option
@json_option
def inspect(file: Path, context: int, slots: int, as_json: bool) -> None:
    """Show the header of a GGUF file, its tensor types, the memory it takes, and its chat template.

    The template is rendered with a sample conversation, in a process with limits. The model is not loaded.
    """
    with in_json(as_json):
        from provision.model_tools.inspection import inspect as inspected

        found = inspected(file, context=context, slots=slots)
    if as_json:
        print_json(found.to_json())
        return
    from provision.reporting.model_tools.inspection import show_inspection
    from provision.reporting.terminal import stdout_console

    show_inspection(stdout_console(), found)
