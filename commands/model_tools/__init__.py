"""Commands for model files on the laptop; each in a module of its own."""

from __future__ import annotations

from commands.model_tools.inspect import inspect
from commands.model_tools.quantize import quantize

TOOLS = (inspect, quantize)
"""All of them, for the group `model`."""
