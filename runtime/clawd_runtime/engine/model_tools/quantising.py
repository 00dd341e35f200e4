"""The tool that quantises a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from clawd_runtime.engine.llama.quantise import convert
from clawd_runtime.engine.model_tools.output import ProgressLines


class ToolArguments(BaseModel):
    """Arguments of a tool, validated strictly but for paths, which are texts in JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    threads: Annotated[int, Field(ge=1, le=1024)] | None = None


class Quantising(ToolArguments):
    """Write `source`, quantised to `kind`, to `destination`, which is incomplete after an error."""

    source: Path
    destination: Path
    kind: str

    def run(self, progress: ProgressLines) -> dict[str, Any]:
        """Convert the model. Raises `ModelError`."""
        progress.step(f"quantising to {self.kind.upper()}")
        made = convert(self.source, self.destination, self.kind, threads=self.threads, report=progress)
        return {"tensors": made.tensors, "fallback": made.fallback}
