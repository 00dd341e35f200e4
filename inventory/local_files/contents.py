"""Checks of the local files that an inventory names: keys, packages and models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from inventory.errors import ArtifactError
from inventory.local_files import existence
from inventory.local_files.existence import present, shown_name
from inventory.model import Inventory
from inventory.model_files import chat_template
from inventory.model_files.chat_template import TemplateProblem
from inventory.model_files.context_budget import counted, left_for_prompt, shortage
from inventory.model_files.footprint import MIB, of_model, size
from inventory.model_files.gguf import GgufHeader, read_header, unservable
from inventory.reading.source import KeyPath
from inventory.rule_findings import InventoryFinding
from inventory.rules.services import LEAST_ENGINE_MEMORY
from inventory.sections.models import LocalModel
from inventory.values import size_in_bytes


def files(inventory: Inventory) -> Iterator[InventoryFinding]:
    """Yield a finding for each named local file that is missing or of the wrong kind."""
    yield from existence.files(inventory)
    for name, model in inventory.models.local().items():
        if model.url is None and model.path.suffix == ".gguf":
            yield from _model(("models", name), model, inventory)


def _model(path: KeyPath, model: LocalModel, inventory: Inventory) -> Iterator[InventoryFinding]:
    at: KeyPath = (*path, "path")
    absent = list(present(at, model.path, "let the host fetch it with `url:` and `sha256:`"))
    yield from absent
    if absent:
        return
    try:
        header = read_header(model.path)
    except ArtifactError as error:
        yield InventoryFinding((at,), _without_path(error.message, model.path), error.advice)
        return
    if (verdict := unservable(header)) is not None:
        yield InventoryFinding((at,), f"{shown_name(model.path)} {verdict[0]}", verdict[1])
        return
    if header.chat_template is not None and (problem := chat_template.problem_of(header.chat_template)):
        yield _template_finding(at, model.path, problem)
    yield from _prompt_fits(path, model, header, inventory)
    length = model.path.stat().st_size
    if length >= size_in_bytes(model.memory_max):
        yield InventoryFinding(
            ((*path, "memory_max"), at),
            f"{model.memory_max} is less than the size of the model file ({length / (1 << 20):.0f}M)",
            "allow the size of the file plus about a third",
        )
    else:
        runs_on_gpu = model.gpu_layers is None and all(
            host.gpu_memory and host.gpu != "none" for host in inventory.with_role("runtime").values()
        )
        yield from _fits(path, model, runs_on_gpu)


def _template_finding(at: KeyPath, file: Path, problem: TemplateProblem) -> InventoryFinding:
    if not problem.compiles:
        return InventoryFinding(
            (at,),
            f"the chat template of {shown_name(file)} cannot be read: {problem.reason}",
            "use a newer file of the model, or one from another publisher",
        )
    return InventoryFinding(
        (at,),
        f"the chat template of {shown_name(file)} cannot be used: {problem.reason}",
        "use another conversion of the model, one with its maker's chat template",
    )


def _without_path(message: str, file: Path) -> str:
    """Return the message with the file's name shortened as elsewhere."""
    return f"{shown_name(file)} {message.removeprefix(f'{file}: ')}"


def _prompt_fits(
    path: KeyPath, model: LocalModel, header: GgufHeader, inventory: Inventory
) -> Iterator[InventoryFinding]:
    """Yield a finding when the system prompt leaves no room for a question and the reply."""
    reply = inventory.bot.max_reply_tokens
    left = left_for_prompt(model, reply)
    if left < 0:  # nothing fits even without a prompt: a rule reports that
        return
    prompt = counted(inventory.bot.system_prompt, model, left)
    yield from shortage(path, model, prompt, reply, header.context_length)


def _fits(path: KeyPath, model: LocalModel, runs_on_gpu: bool) -> Iterator[InventoryFinding]:
    """Yield a finding when the context exceeds the model's, or the engine needs more memory than allowed."""
    needed = of_model(model)
    if needed is None:
        return
    if needed.context_length and model.context_size > needed.context_length:
        yield InventoryFinding(
            ((*path, "context_size"), (*path, "path")),
            f"{model.context_size} tokens are more than the context length of {shown_name(model.path)}, "
            f"{needed.context_length}",
            f"write {needed.context_length} or less",
        )
    too_little = size_in_bytes(model.memory_max) < size_in_bytes(LEAST_ENGINE_MEMORY)  # a rule reports it
    if needed.total > size_in_bytes(model.memory_max) and not runs_on_gpu and not too_little:
        yield InventoryFinding(
            ((*path, "memory_max"), (*path, "path")),
            f"{model.memory_max} is less than the engine needs: {size(needed.total)} = {needed.how}",
            f"write {-(-needed.total * 11 // 10 // MIB)}M, "
            "or lower `parallel`, `context_size` or `states.memory`",
        )
