"""What the arguments of all tools have in common."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from clawd_runtime.engine.model_tools.output import ProgressLines


class ToolArguments(BaseModel):
    """Arguments of a tool, checked when they are read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    threads: Annotated[int, Field(ge=1, le=1024)] | None = None

    def run(self, progress: ProgressLines) -> dict[str, Any]:
        """Run the tool and return its result. Raises `RuntimeFault`."""
        raise NotImplementedError
