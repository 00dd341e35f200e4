"""What READMEs, tutorial and guides say works as it stands there, and both languages say the same."""

from __future__ import annotations

import ast
import re
import shlex
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from cli import program
from inventory.load import load
from tests import ggufs

ROOT = Path(__file__).resolve().parents[2]
ENGLISH, CHINESE = "README.md", "README.zh.md"
TUTORIALS = ("docs/tutorial.md", "docs/zh/tutorial.md")
PLAIN_PYINFRA = ("docs/howto/new-component.md", "docs/zh/howto/new-component.md")
COMMAND = r"clawd-provision ([a-z][^`#\n│]*)"
TARGET = r"\]\((?!http)([^)]+)\)"
GOAL = r"^make (\w+)"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SMALL = ggufs.Model(1_543_714_304, 28, 12, 2, 1536, 8960, 151936)


def blocks(name: str, kind: str) -> list[str]:
    return [text for found, text in BLOCK.findall((ROOT / name).read_text()) if found == kind]


def shape(name: str) -> list[str]:
    """Headings, by their level, and code blocks, by their kind, in order."""
    return re.findall(r"^(?:#{1,6}(?= )|```\w+|\|(?=---))", (ROOT / name).read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", [ENGLISH, CHINESE, *TUTORIALS])
def test_first_inventory_of_the_readme_is_complete(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = blocks(name, "yaml")[0]
    assert len(first.splitlines()) == 6
    (tmp_path / "inventory").mkdir()
    (tmp_path / "models").mkdir()
    ggufs.write(tmp_path / "models" / "qwen2.5-1.5b-instruct-q4_k_m.gguf", SMALL)
    monkeypatch.setenv("TELEGRAM_TOKEN", "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw")
    monkeypatch.setenv("TELEGRAM_SECRET", "a-secret-token-of-ours")
    (tmp_path / "inventory" / "prod.yml").write_text(first)
    assert set(load(tmp_path / "inventory" / "prod.yml").inventory.hosts) == {"bot"}


def test_readmes_in_both_languages_have_the_same_sections_and_blocks() -> None:
    assert shape(ENGLISH) == shape(CHINESE)
    assert [len(blocks(ENGLISH, kind)) for kind in ("", "yaml")] == [
        len(blocks(CHINESE, kind)) for kind in ("", "yaml")
    ]


def test_pyinfra_example_is_the_same_in_both_languages() -> None:
    english, chinese = (blocks(name, "python") for name in PLAIN_PYINFRA)
    assert english == chinese
    (code,) = english
    given: dict[str, Any] = {}
    exec(compile(ast.parse(code), "INVENTORY.py", "exec"), given)
    ((_, data),) = given["hosts"]
    for name in ("base", "firewall"):
        settings = import_module(f"deploys.{name}.settings")
        assert getattr(settings, f"{name.capitalize()}Settings").model_validate(data[name])
    called = {
        tuple(re.findall(r"deploys\.(\w+)\.deploy\.apply", "".join(blocks(name, ""))))
        for name in PLAIN_PYINFRA
    }
    assert called == {("base", "firewall")}


def missing(commands: list[str], targets: list[str], goals: list[str]) -> list[str]:
    """Return those that the command line, the repository and the Makefile do not have."""

    def is_known(line: str) -> bool:
        command, *words = shlex.split(line)
        known = {option for parameter in program.commands[command].params for option in parameter.opts}
        return {word for word in words if word.startswith("-")} <= known

    makefile = (ROOT / "Makefile").read_text()
    return [
        *(line for line in commands if not is_known(line)),
        *(target for target in targets if not (ROOT / target).exists()),
        *(goal for goal in goals if not re.search(rf"^{goal}:", makefile, re.MULTILINE)),
    ]


@pytest.mark.parametrize("name", [ENGLISH, CHINESE])
def test_commands_and_files_of_the_readme_exist(name: str) -> None:
    commands = re.findall(COMMAND, "\n".join(blocks(name, "")[1:]))
    assert len(commands) >= 5
    targets = re.findall(TARGET, (ROOT / name).read_text())
    assert len(targets) >= 5
    goals = re.findall(GOAL, "\n".join(blocks(name, "")), re.MULTILINE)
    assert missing(commands, targets, goals) == []


def test_commands_and_files_that_do_not_exist_are_found() -> None:
    commands = re.findall(COMMAND, "clawd-provision up --yes\nclawd-provision up --colour red  # why\n")
    targets = re.findall(TARGET, "[a](docs/index.md) [b](docs/none.md) [c](https://example.com)")
    goals = re.findall(GOAL, "make test\nmake nothing\n", re.MULTILINE)
    assert missing(commands, targets, goals) == ["up --colour red  ", "docs/none.md", "nothing"]
