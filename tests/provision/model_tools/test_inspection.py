"""What `model inspect` finds in a file."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from inventory.errors import ClawdError
from inventory.model_files.chat_template import TemplateProblem
from inventory.model_files.footprint import footprint
from inventory.model_files.gguf import read_header
from provision.model_tools.inspection import ModelInspection, inspect
from provision.reporting.model_tools.inspection import show_inspection
from tests import ggufs
from tests.ggufs import Tensor


def shown(found: ModelInspection) -> str:
    output = io.StringIO()
    show_inspection(Console(file=output, width=200), found)
    return output.getvalue()


def with_template(folder: Path, template: str) -> ModelInspection:
    texts = {"tokenizer__chat_template": template}
    file = ggufs.write_tensors(folder / "m.gguf", (Tensor("w", 64, 0, 256),), **texts)
    return inspect(file, context=512, slots=1)


def test_memory_is_that_of_the_context_and_the_slots(tmp_path: Path) -> None:
    file = ggufs.write(tmp_path / "m.gguf", ggufs.LIGHT)
    small, large = (inspect(file, context=4096, slots=slots) for slots in (1, 8))
    assert small.memory == footprint(
        read_header(file), context_size=4096, parallel=1, file_size=file.stat().st_size
    )
    assert large.memory.kv_cache == 8 * small.memory.kv_cache
    assert "7.62B, light tier" in shown(small)
    assert "memory of 8 conversations of 4096 tokens" in shown(large)


def test_sample_conversation_is_rendered_with_the_template_of_the_file(tmp_path: Path) -> None:
    found = with_template(tmp_path, ggufs.CHAT_TEMPLATE)
    assert "| user: What is the capital of France?" in shown(found)
    assert json.loads(json.dumps(found.to_json()))["sample_prompt"] == found.prompt


@pytest.mark.parametrize("template", ["{{ raise_exception('no') }}", "{% for %}", "{{ messages[0].role }}"])
def test_template_that_cannot_be_used_is_explained(tmp_path: Path, template: str) -> None:
    found = with_template(tmp_path, template)
    assert isinstance(found.prompt, TemplateProblem)
    assert "chat template: cannot" in shown(found)
    assert found.to_json()["sample_prompt"] is None


def test_control_sequences_of_a_template_do_not_reach_the_terminal(tmp_path: Path) -> None:
    found = with_template(tmp_path, "\x1b[2J" + ggufs.CHAT_TEMPLATE)
    assert isinstance(found.prompt, str)
    assert "\x1b" in found.prompt
    assert "\x1b" not in shown(found)


def test_context_longer_than_the_training_is_a_warning(tmp_path: Path) -> None:
    file = ggufs.write(tmp_path / "m.gguf", ggufs.BALANCED)
    assert "longer than the 4096 tokens" in shown(inspect(file, context=8192, slots=1))
    assert inspect(file, context=4096, slots=1).warning == ""


def test_model_that_cannot_be_served_is_inspected_with_the_reason(tmp_path: Path) -> None:
    texts = {"general__architecture": "bert"}
    file = ggufs.write_tensors(tmp_path / "m.gguf", (Tensor("w", 64, 0, 256),), **texts)
    found = inspect(file, context=512, slots=1)
    assert "warning: cannot be served: it cannot chat: its architecture makes embeddings" in shown(found)
    assert found.to_json()["servable"] is False


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ClawdError, match="there is no such file"):
        inspect(tmp_path / "none.gguf", context=512, slots=1)
    with pytest.raises(ClawdError, match="is a folder"):
        inspect(tmp_path, context=512, slots=1)
