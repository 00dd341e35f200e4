"""The section `runtime` of an inventory."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from inventory.types import Declared


class Runtime(Declared):
    """How engine and bot run on hosts."""

    run_with: Literal["systemd", "docker"] = Field(
        "systemd",
        description="Whether engine and bot run in a Python environment (`systemd`) or in containers "
        "(`docker`); systemd supervises both.",
    )
