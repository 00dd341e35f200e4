"""Display of a quantisation."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from inventory.model_files.footprint import size
from inventory.model_files.gguf import GgufHeader
from provision.model_tools.quantisation import Quantisation


def show_quantisation(console: Console, made: Quantisation) -> None:
    """Print sizes and tensor types before and after, and what to do next."""
    for line in lines(made):
        console.print(line, soft_wrap=True)


def lines(made: Quantisation) -> Iterator[Text]:
    """Yield the lines of the display."""
    yield Text(f"wrote {made.target} in {made.seconds:.1f} s", style="bold")
    for what, bytes_taken, header in (
        ("before", made.source_size, made.before),
        ("after", made.target_size, made.after),
    ):
        bits = 8 * header.weights / header.parameters if header.parameters else 0.0
        yield Text(f"  {what:<8}{size(bytes_taken):>10}  {bits:5.2f} bits a weight  {types_of(header)}")
    if made.fallback:
        yield Text(
            f"  {made.fallback} of {made.after.tensors} tensors have a shape that {made.kind} does not "
            "allow: they got a larger type"
        )
    files = str(made.target) if made.source.is_dir() else f"{made.source} {made.target}"
    yield Text(f"hint: measure the quality: clawd-provision model evaluate {files}")


def types_of(header: GgufHeader) -> str:
    """Return the tensor types and how many tensors have each."""
    return ", ".join(f"{share.tensors} × {share.name}" for share in header.tensor_types)
