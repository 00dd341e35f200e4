"""Programs that run on hosts are files in `scripts`; `make lint` runs shellcheck and ruff over them."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from deploys.ops import programs
from deploys.ops.programs import program, sources

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ("deploys", "provision")
FILES = sorted(str(file.relative_to(ROOT)) for layer in LAYERS for file in (ROOT / layer).rglob("*.sh"))
IN_PYTHON = sorted(
    str(file.relative_to(ROOT)) for layer in LAYERS for file in (ROOT / layer).rglob("scripts/*.py")
)


def test_programs_are_found() -> None:
    assert "deploys/disk/scripts/format.sh" in FILES
    assert "deploys/elastic/scripts/call_api.py" in IN_PYTHON


@pytest.mark.parametrize("path", IN_PYTHON)
def test_python_program_imports_only_the_standard_library(path: str) -> None:
    tree = ast.parse(program(path))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert imported
    assert {name.partition(".")[0] for name in imported} <= sys.stdlib_module_names
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]


@pytest.mark.parametrize("path", FILES)
def test_program_is_valid_for_the_shell_of_hosts(path: str) -> None:
    done = subprocess.run(["sh", "-n"], input=program(path), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_program_is_used_and_every_used_program_exists() -> None:
    used = {path for file in FILES for path in sources(file)}
    for layer in LAYERS:
        for module in (ROOT / layer).rglob("*.py"):
            used.update(re.findall(r'\bprogram\(\s*"([^"]+/scripts/[^"]+)"', module.read_text()))
    assert used == {*FILES, *IN_PYTHON}


def test_shared_functions_are_in_a_program_once_and_without_directives_and_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "deploys" / "x" / "scripts"
    folder.mkdir(parents=True)
    (folder / "common.sh").write_text("# shellcheck shell=sh\n# For both.\n\ncommon() { echo common; }\n")
    (folder / "other.sh").write_text(". deploys/x/scripts/common.sh\nother() { common; }\n")
    (folder / "main.sh").write_text(
        "# shellcheck shell=sh\n\n. deploys/x/scripts/common.sh\n. deploys/x/scripts/other.sh\n"
        '# shellcheck disable=SC2154  # a reason\n# Kept.\n. /etc/os-release\necho "$of"\n'
    )
    monkeypatch.setattr(programs, "ROOT", tmp_path)
    assert program("deploys/x/scripts/main.sh") == (
        'common() { echo common; }\nother() { common; }\n# Kept.\n. /etc/os-release\necho "$of"\n'
    )


def test_program_without_a_variable_that_it_declares_does_nothing(tmp_path: Path) -> None:
    declared = re.match(r': "\$\{disk\?\}".*\n', program("deploys/disk/scripts/format.sh"))
    assert declared
    done = subprocess.run(
        ["sh", "-c", declared[0] + "echo done"], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "disk" in done.stderr
    assert not done.stdout
