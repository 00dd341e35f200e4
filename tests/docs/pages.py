"""The pages of the documentation, and what stands in them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor

from deploys.registry import BY_NAME
from inventory.model import Inventory

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SECRET = "0123456789abcdef" * 4
LEAST: dict[str, Any] = {
    "hosts": {"bot": {"address": "bot.example.com"}},
    "models": {"default": {"engine": "openai-compatible", "endpoint": "https://models.example.com/v1"}},
}
"""What a fragment of an inventory is completed with."""


def written_pages() -> list[Path]:
    """Return every page that people write, by path."""
    own = [ROOT / name for name in ("README.md", "README.zh.md", "ARCHITECTURE.md", "CONTRIBUTING.md")]
    generated = ROOT / "docs" / "reference"
    inside = [page for page in (ROOT / "docs").rglob("*.md") if page.parent != generated]
    return sorted([*(page for page in own if page.exists()), *inside, *component_pages().values()])


def component_pages() -> dict[str, Path]:
    """Return the page of every component."""
    return {name: ROOT / "deploys" / name / "README.md" for name in BY_NAME}


def named(page: Path) -> str:
    """Return the path of a page in the repository."""
    return str(page.relative_to(ROOT))


def blocks(text: str, kind: str) -> list[str]:
    """Return the blocks of code of one kind, in order."""
    return [code for found, code in BLOCK.findall(text) if found == kind]


def shape(text: str) -> list[str]:
    """Return headings by their level, blocks of code by their kind, and tables, in order."""
    outside = re.sub(r"^```(\w*)$.*?^```$", r"```\1", text, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"^(?:#{1,6}(?= )|```\w*|\|(?=---))", outside, re.MULTILINE)


def is_inventory(yaml: str) -> bool:
    """Return whether a block is an inventory, or a part of one: not rules, playbooks or other YAML."""
    return bool(re.match(r"(?:#.*\n)*(\w+):", yaml)) and set(_keys(yaml)) <= set(Inventory.model_fields)


def _keys(yaml: str) -> list[str]:
    return re.findall(r"^(\w+):", yaml, re.MULTILINE)


class _WithoutSecrets(SafeConstructor):
    """A constructor of its own: ruamel registers tags at the class, and so for every other reader as well."""


_WithoutSecrets.add_multi_constructor("!", lambda *_: SECRET)


def validated(fragment: str) -> Inventory:
    """Return a part of an inventory, completed with what it does not have.

    Raise `ValidationError` for a setting that does not exist, or a value that it cannot have.
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = _WithoutSecrets
    return Inventory.model_validate(LEAST | yaml.load(fragment))
