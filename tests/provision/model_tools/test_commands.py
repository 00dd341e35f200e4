"""The commands below `model`, as a person or a program calls them."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from cli import program
from commands.model_tools import TOOLS
from commands.running import Trail
from inventory.errors import ClawdError
from tests import ggufs
from tests.ggufs import Tensor

INVENTORY = """
hosts:
  bot1: {address: 10.0.0.1, cores: 8, memory: 16G, roles: [runtime]}
models: {default: {engine: openai-compatible, endpoint: "https://models.example.com/v1"}}
channels: {console: {jwt_secret: !env JWT_SECRET}}
"""


def called(*words: object) -> Result:
    return CliRunner(env={"JWT_SECRET": "x" * 32}).invoke(
        program, ["model", *map(str, words)], obj=Trail(), standalone_mode=False
    )


def refusal(*words: object) -> ClawdError:
    error = called(*words).exception
    assert isinstance(error, ClawdError)
    return error


@pytest.fixture
def quantised(tmp_path: Path) -> Path:
    return ggufs.write_tensors(tmp_path / "m-q8_0.gguf", (Tensor("blk.0.attn_q.weight", 64, 8, 68),))


def test_every_tool_has_help_with_examples() -> None:
    assert len(TOOLS) == 5
    for tool in TOOLS:
        output = called(tool.name, "--help").output
        assert f"Examples:\n  clawd-provision model {tool.name} " in output


def test_inspect_prints_json_for_programs(tmp_path: Path) -> None:
    file = ggufs.write(tmp_path / "m.gguf", ggufs.LIGHT)
    found = json.loads(called("inspect", file, "--slots", 2, "--json").output)
    assert (found["tier"], found["slots"], found["main_type"]) == ("light", 2, "Q4_K")


def test_fit_prints_json_for_programs(tmp_path: Path) -> None:
    file = tmp_path / "prod.yml"
    file.write_text(INVENTORY)
    (host,) = json.loads(called("fit", "-i", file, "--json").output)["hosts"]
    assert (host["host"], host["recommended"], host["source"]) == ("bot1", "light", "declared")


@pytest.mark.parametrize("words", [("quantize", "--to", "Q4_0"), ("prune",)])
def test_quantised_model_is_refused_without_a_flag(quantised: Path, words: tuple[str, ...]) -> None:
    error = refusal(words[0], quantised, *words[1:])
    assert "is already quantised (Q8_0)" in error.message
    assert "--requantize" in error.advice
    assert [path.name for path in quantised.parent.iterdir()] == ["m-q8_0.gguf"]


def test_folder_of_safetensors_needs_a_python(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).touch()
    assert (
        "a Python with PyTorch and Transformers is needed"
        in refusal("quantize", folder, "--to", "Q8_0").message
    )


def test_plot_that_cannot_be_written_is_refused_before_anything_is_measured(
    quantised: Path, tmp_path: Path
) -> None:
    error = refusal("evaluate", quantised, "--plot", tmp_path / "no" / "plot.svg")
    assert "does not exist" in error.message


def test_error_is_json_too_if_that_is_wanted(tmp_path: Path) -> None:
    result = called("inspect", tmp_path / "none.gguf", "--json")
    assert isinstance(result.exception, ClawdError)
    assert "there is no such file" in json.loads(result.output)["error"]


@pytest.mark.parametrize("share", ["0", "1", "-1", "nan"])
def test_share_outside_its_range_is_refused(quantised: Path, share: str) -> None:
    result = called("prune", quantised, "--requantize", "--share", share)
    assert isinstance(result.exception, click.BadParameter | ClawdError)
    assert "range" in str(result.exception)
