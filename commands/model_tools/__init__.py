"""Commands for model files on the laptop; each in a module of its own."""

from __future__ import annotations

from commands.model_tools.evaluate import evaluate
from commands.model_tools.fit import fit
from commands.model_tools.inspect import inspect
from commands.model_tools.prune import prune
from commands.model_tools.quantize import quantize

TOOLS = (evaluate, fit, inspect, prune, quantize)
"""All of them, for the group `model`."""
