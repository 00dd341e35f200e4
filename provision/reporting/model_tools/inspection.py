"""Display of a model's inspection."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from inventory.model_files.chat_template import TemplateProblem
from inventory.model_files.footprint import size
from inventory.reading.text import printable
from provision.model_tools.inspection import ModelInspection


def show_inspection(console: Console, found: ModelInspection) -> None:
    """Print header, tensor types, memory, and the sample conversation in the model's format."""
    for line in lines(found):
        console.print(line, soft_wrap=True)


def lines(found: ModelInspection) -> Iterator[Text]:
    """Yield the lines of the display."""
    header, memory = found.header, found.memory
    shape = header.shape
    yield Text(str(found.path), style="bold")
    yield _row("name", printable(header.name) or "not given")
    yield _row("architecture", printable(header.architecture))
    yield _row("parameters", f"{parameters(header.parameters)}, {memory.tier} tier")
    yield _row(
        "layers", f"{len(shape.kv_heads)}, embedding {shape.embedding}, feed forward {shape.feed_forward}"
    )
    yield _row(
        "vocabulary", f"{shape.vocabulary} tokens ({printable(header.tokenizer) or 'tokenizer unknown'})"
    )
    yield _row("trained for", f"{header.context_length} tokens" if header.context_length else "not given")
    yield _row("file", f"{size(found.file_size)}, GGUF version {header.version}")
    yield Text()
    yield Text(f"  {'type':<10}{'tensors':>8}{'elements':>14}{'size':>12}{'bits':>7}", style="dim")
    for share in header.tensor_types:
        columns = f"{share.tensors:>8}{share.elements:>14}{size(share.size):>12}{share.bits:>7.2f}"
        yield Text(f"  {share.name:<10}{columns}")
    yield Text()
    yield Text(f"  memory of {found.slots} conversations of {found.context} tokens", style="dim")
    for what, count in (
        ("weights", memory.weights),
        ("KV cache", memory.kv_cache),
        ("buffers", memory.buffers),
        ("process", memory.process),
    ):
        yield Text(f"  {size(count):>10}  {what}")
    yield Text(f"  {size(memory.total):>10}  total", style="bold")
    yield Text()
    yield from _prompt(found.prompt)
    if found.warning:
        yield Text(f"warning: {found.warning}", style="yellow")
    if found.problem is not None:
        yield Text(f"warning: cannot be served: it {found.problem[0]}", style="yellow")
        yield Text(f"hint: {found.problem[1]}", style="yellow")


def parameters(count: int) -> str:
    """Return a number of parameters as people write it: 135M, 7.6B."""
    return f"{count / 1e9:.3g}B" if count >= 1e9 else f"{count / 1e6:.3g}M"


def _row(what: str, value: str) -> Text:
    return Text(f"  {what:<14}", style="dim").append(value, style="not dim")


def _prompt(prompt: str | TemplateProblem | None) -> Iterator[Text]:
    if prompt is None:
        yield Text("  no chat template", style="dim")
    elif isinstance(prompt, TemplateProblem):
        yield Text(f"  chat template: {printable(prompt.reason)}", style="yellow")
    else:
        yield Text("  a conversation in its chat template", style="dim")
        for line in prompt.splitlines():
            yield Text(f"  | {printable(line)}")
