"""Shell functions by which root writes into folders of other users: with the rights of that user.

The owner of a folder can replace anything in it by a symbolic link at any moment, so a path below it can lead
root anywhere. The functions here detect such folders and access them as their owner.
"""

from __future__ import annotations

from deploys.ops.programs import program

KEEPER = program("deploys/ops/paths/scripts/keeper.sh")

PLACE = program("deploys/ops/paths/scripts/place.sh")
"""A shell program with the arguments PATH, GROUP and MODE, which writes its standard input to PATH."""

SETTLE = program("deploys/ops/paths/scripts/settle.py")
"""A Python program with the arguments PATH, OWNER, MODE: sets both, follows no link, refuses hard links."""

REMOVE = program("deploys/ops/paths/scripts/remove.py")
"""A Python program with the argument PATH: removes it, and follows no link of other users than root."""
