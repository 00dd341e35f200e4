"""The group `model`: commands about language models."""

from __future__ import annotations

import click

from commands.model_tools import TOOLS


@click.group()
def model() -> None:
    """Inspect, convert and compare models."""


for command in TOOLS:
    model.add_command(command)
