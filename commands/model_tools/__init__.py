"""Commands for model files on the laptop; each in a module of its own."""

from __future__ import annotations

from commands.model_tools.inspect import inspect

TOOLS = (inspect,)
"""All of them, for the group `model`."""
