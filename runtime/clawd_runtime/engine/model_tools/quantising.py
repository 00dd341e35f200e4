"""The tool that quantises a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clawd_runtime.engine.llama.quantise import convert
from clawd_runtime.engine.model_tools.arguments import ToolArguments
from clawd_runtime.engine.model_tools.output import ProgressLines


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
