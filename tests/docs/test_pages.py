"""What the pages say exists: commands, options, settings, files; and both languages say the same."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from cli import program
from docs.generator.settings import settings
from inventory.model import Inventory
from tests.docs.pages import ROOT, blocks, is_inventory, named, shape, validated, written_pages

PAGES = written_pages()
CHINESE = sorted((ROOT / "docs" / "zh").rglob("*.md"))
SETTINGS = frozenset(setting.path.replace(".NAME", "").replace("[]", "") for setting in settings(Inventory))
OTHERS = re.compile(
    r"\.(example\.com|internal|json|py|tar)$|^channels\.(telegram\.max_connections|feishu\.max_event_age)$"
)
"""Names, files, and settings of bot.json: what looks like a setting of an inventory and is none."""
MAKEFILE = (ROOT / "Makefile").read_text()


def commands(text: str) -> list[str]:
    """Return every call of the program in blocks of code, and in code within lines."""
    blocked = "\n".join(code for kind in ("", "sh") for code in blocks(text, kind))
    inline = re.findall(r"`(?:\S*/)?clawd-provision ([a-z][^`]*)`", text)
    return [*inline, *re.findall(r"(?:^|[ /])clawd-provision ([a-z][^`#\n│]*)", blocked, re.MULTILINE)]


def wrong_in(call: str) -> str | None:
    """Return what the program does not know of a call, such as `up --colour`; `None` when it knows all."""
    words = shlex.split(call.partition(" > ")[0].partition(" | ")[0].removesuffix(')"'))
    command: click.Command = program
    while words and isinstance(command, click.Group):
        name = words.pop(0)
        if name not in command.commands:
            return name
        command = command.commands[name]
    known = {
        option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
    }
    options = (word.partition("=")[0] for word in words if word.startswith("-"))
    return next((option for option in options if option not in known | {"--help", "-h"}), None)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_and_options_on_pages_exist(page: Path) -> None:
    assert {call: wrong for call in commands(page.read_text()) if (wrong := wrong_in(call))} == {}


def test_unknown_command_or_option_on_a_page_is_found() -> None:
    assert commands("`clawd-provision up -i prod`\n\n```\nclawd-provision plan -i prod  # what\n```\n") == [
        "up -i prod",
        "plan -i prod  ",
    ]
    assert wrong_in("up -i prod --colour") == "--colour"
    assert wrong_in("inventory paint") == "paint"
    assert sum(len(commands(page.read_text())) for page in PAGES) > 60


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_make_targets_on_pages_exist(page: Path) -> None:
    text = page.read_text()
    lines = "\n".join(blocks(text, "") + blocks(text, "sh"))
    goals = {*re.findall(r"^make ([a-z-]+)", lines, re.MULTILINE), *re.findall(r"`make ([a-z-]+)", text)}
    assert {goal for goal in goals if not re.search(rf"^{goal}:", MAKEFILE, re.MULTILINE)} == set()


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_settings_on_pages_exist(page: Path) -> None:
    sections = "|".join(Inventory.model_fields)
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    found = re.findall(rf"`((?:{sections})(?:\.[a-z_]+)+)(?::[^`]*)?`", text)
    assert {path for path in found if not known(path) and not OTHERS.search(path)} == set()


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_files_named_on_pages_exist(page: Path) -> None:
    assert {name for name in files_in(page.read_text()) if not (ROOT / name).exists()} == set()


def files_in(text: str) -> set[str]:
    """Return the files and folders of the repository that stand in code, without patterns."""
    found = re.findall(r"`((?:inventory|provision|deploys|runtime|templates|tests|docs)/[^`\s]*)`", text)
    chosen = re.compile(r"[<>{*]|NAME|prod\.yml|\.clawd|^templates/$")
    return {name.rstrip("/") for name in found if not chosen.search(name)}


def test_names_of_files_on_a_page_are_found() -> None:
    text = "`provision/rollout/stages.py`, `provision/nothing.py`, `deploys/<component>/deploy.py`"
    assert files_in(text) == {"provision/rollout/stages.py", "provision/nothing.py"}
    assert sum(len(files_in(page.read_text())) for page in PAGES) > 100


def known(path: str) -> bool:
    """Return whether a path is a setting, or the beginning of one."""
    return any(setting == path or setting.startswith(f"{path}.") for setting in SETTINGS)


def test_unknown_setting_on_a_page_is_found() -> None:
    assert known("base.ssh_port")
    assert known("tls.acme.dns")
    assert not known("base.colour")


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_inventories_on_pages_are_valid(page: Path) -> None:
    for fragment in blocks(page.read_text(), "yaml"):
        if is_inventory(fragment):
            validated(fragment)


@pytest.mark.parametrize("page", CHINESE, ids=named)
def test_chinese_page_has_the_sections_and_blocks_of_the_english_one(page: Path) -> None:
    english = ROOT / "docs" / page.relative_to(ROOT / "docs" / "zh")
    assert shape(page.read_text()) == shape(english.read_text())


def test_tutorial_and_guides_exist_in_both_languages() -> None:
    wanted = {
        "tutorial.md",
        "index.md",
        *(f"howto/{page.name}" for page in (ROOT / "docs/howto").glob("*.md")),
    }
    assert len(wanted) > 8
    assert {str(page.relative_to(ROOT / "docs" / "zh")) for page in CHINESE} >= wanted
