"""What an inventory needs of the machine it is loaded on: keys and model files that it names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from inventory import chat_template, named_files
from inventory.errors import ArtifactError
from inventory.finding import Finding
from inventory.footprint import MIB, of_model, size
from inventory.gguf import GgufHeader, read_header, unservable
from inventory.model import Inventory, LocalModel
from inventory.named_files import present, shown_name
from inventory.room import counted, left_for_prompt, shortage
from inventory.rules.services import LEAST_ENGINE_MEMORY
from inventory.source import KeyPath
from inventory.values import size_in_bytes


def files(inventory: Inventory) -> Iterator[Finding]:
    """The files that the inventory names are here and are what they should be."""
    yield from named_files.files(inventory)
    for name, model in (("default", inventory.models.default), ("fallback", inventory.models.fallback)):
        if isinstance(model, LocalModel) and model.url is None and model.path.suffix == ".gguf":
            yield from _model(("models", name), model, inventory)


def _model(path: KeyPath, model: LocalModel, inventory: Inventory) -> Iterator[Finding]:
    at: KeyPath = (*path, "path")
    absent = list(present(at, model.path, "let the host fetch it with `url:` and `sha256:`"))
    yield from absent
    if absent:
        return
    try:
        header = read_header(model.path)
    except ArtifactError as error:
        yield Finding((at,), _without_path(error.message, model.path), error.advice)
        return
    if (verdict := unservable(header)) is not None:
        yield Finding((at,), f"{shown_name(model.path)} {verdict[0]}", verdict[1])
        return
    if header.chat_template is not None and (problem := chat_template.problem_of(header.chat_template)):
        yield Finding(
            (at,),
            f"the chat template of {shown_name(model.path)} cannot be read: {problem}",
            "take a newer file of the model, or one of another maker",
        )
    elif header.chat_template is not None and (loss := chat_template.loss_of(header.chat_template)):
        yield Finding(
            (at,),
            f"the chat template of {shown_name(model.path)} cannot be used: {loss}",
            "take another conversion of the model, one with its maker's chat template",
        )
    yield from _prompt_fits(path, model, header, inventory)
    length = model.path.stat().st_size
    if length >= size_in_bytes(model.memory_max):
        yield Finding(
            ((*path, "memory_max"), at),
            f"{model.memory_max} is less than the model file itself has ({length / (1 << 20):.0f}M)",
            "allow the file's size and about a third more",
        )
    else:
        runs_on_gpu = model.gpu_layers is None and all(
            host.gpu_memory and host.gpu != "none" for host in inventory.with_role("runtime").values()
        )
        yield from _fits(path, model, runs_on_gpu)


def _without_path(message: str, file: Path) -> str:
    """What is wrong with a file, its name shortened as elsewhere."""
    return f"{shown_name(file)} {message.removeprefix(f'{file}: ')}"


def _prompt_fits(
    path: KeyPath, model: LocalModel, header: GgufHeader, inventory: Inventory
) -> Iterator[Finding]:
    """The system prompt leaves room for a question and the reply."""
    reply = inventory.bot.max_reply_tokens
    left = left_for_prompt(model, reply)
    if left < 0:  # without any prompt: a rule says so
        return
    prompt = counted(inventory.bot.system_prompt, model, left)
    yield from shortage(path, model, prompt, reply, header.context_length)


def _fits(path: KeyPath, model: LocalModel, runs_on_gpu: bool) -> Iterator[Finding]:
    """The conversations are none too long for the model, and the engine may use what it will take."""
    needed = of_model(model)
    if needed is None:
        return
    if needed.context_length and model.context_size > needed.context_length:
        yield Finding(
            ((*path, "context_size"), (*path, "path")),
            f"a conversation of {model.context_size} tokens is longer than the {needed.context_length} that "
            f"{shown_name(model.path)} is made for",
            f"write {needed.context_length} or less",
        )
    too_little = size_in_bytes(model.memory_max) < size_in_bytes(LEAST_ENGINE_MEMORY)  # a rule says so
    if needed.total > size_in_bytes(model.memory_max) and not runs_on_gpu and not too_little:
        yield Finding(
            ((*path, "memory_max"), (*path, "path")),
            f"{model.memory_max} is less than the engine takes: {size(needed.total)} = {needed.how}",
            f"write {-(-needed.total * 11 // 10 // MIB)}M, or lower `parallel` or `context_size`",
        )
