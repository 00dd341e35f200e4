"""What a model's file says about itself, and what serving it takes. Reads the header only."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from inventory.errors import ClawdError
from inventory.model_files.chat_template import TemplateProblem, rendered
from inventory.model_files.footprint import Footprint, footprint
from inventory.model_files.gguf import GgufHeader, read_header, read_vocabulary, unservable
from inventory.model_files.tensor_types import main_type

SAMPLE = (
    ("system", "You are the assistant of the ACME team."),
    ("user", "What is the capital of France?"),
    ("assistant", "Paris."),
    ("user", "And of Italy?"),
)
"""The conversation that is rendered: pairs of role and text."""


@dataclass(frozen=True, slots=True)
class ModelInspection:
    """A model's file, its header, and the memory that it takes with `slots` conversations of `context`."""

    path: Path
    file_size: int
    header: GgufHeader
    memory: Footprint
    context: int
    slots: int
    prompt: str | TemplateProblem | None
    """The sample conversation in the model's own format, or why there is none; `None` without a template."""
    problem: tuple[str, str] | None
    """Why the model cannot be served, and a hint; `None` when it can."""

    @property
    def warning(self) -> str:
        """Return what stands against serving with this context; empty when nothing does."""
        trained = self.header.context_length
        if trained and self.context > trained:
            return f"a context of {self.context} is longer than the {trained} tokens it is trained for"
        return ""

    def to_json(self) -> dict[str, Any]:
        """Return the inspection as plain data. Sizes are in bytes."""
        header, memory = self.header, self.memory
        shape = header.shape
        return {
            "path": str(self.path),
            "file_size": self.file_size,
            "gguf_version": header.version,
            "name": header.name,
            "architecture": header.architecture,
            "parameters": header.parameters,
            "tier": memory.tier,
            "layers": len(shape.kv_heads),
            "embedding": shape.embedding,
            "feed_forward": shape.feed_forward,
            "vocabulary": shape.vocabulary,
            "tokenizer": header.tokenizer,
            "context_length": header.context_length,
            "main_type": main_type(header.tensor_types),
            "tensor_types": [asdict(share) for share in header.tensor_types],
            "context": self.context,
            "slots": self.slots,
            "memory": {
                "weights": memory.weights,
                "kv_cache": memory.kv_cache,
                "buffers": memory.buffers,
                "process": memory.process,
                "total": memory.total,
            },
            "sample_prompt": self.prompt if isinstance(self.prompt, str) else None,
            "template_problem": self.prompt.reason if isinstance(self.prompt, TemplateProblem) else None,
            "servable": self.problem is None,
            "problem": self.problem[0] if self.problem else None,
            "warning": self.warning or None,
        }


def inspect(path: Path, *, context: int, slots: int) -> ModelInspection:
    """Return what the file says about itself. Raises `ArtifactError` when it is not GGUF, or damaged."""
    check_exists(path)
    header = read_header(path)
    memory = footprint(header, context_size=context, parallel=slots, file_size=path.stat().st_size)
    prompt: str | TemplateProblem | None = None
    if header.chat_template is not None:
        vocabulary = read_vocabulary(path)
        prompt = rendered(header.chat_template, SAMPLE, bos=vocabulary.bos, eos=vocabulary.eos)
    return ModelInspection(
        path, path.stat().st_size, header, memory, context, slots, prompt, unservable(header)
    )


def check_exists(path: Path) -> None:
    """Raise `ClawdError` unless `path` is a file."""
    if path.is_dir():
        raise ClawdError(f"{path}: is a folder, not a model", advice="name the GGUF file in it")
    if not path.is_file():
        raise ClawdError(f"{path}: there is no such file", advice="check the path of the model")
