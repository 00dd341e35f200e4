"""The group `model`: commands about language models."""

from __future__ import annotations

import click

from commands.model_routes import ROUTES
from commands.model_tools import TOOLS


@click.group()
def model() -> None:
    """Inspect, convert and compare models, and give them shares of the conversations."""


for command in (*ROUTES, *TOOLS):
    model.add_command(command)
