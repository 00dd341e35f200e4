"""Every component has a page with the same five sections."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.docs.pages import blocks, component_pages, validated

SECTIONS = ["What it does", "Settings", "Example", "Removal", "Limits"]


def sections(page: str) -> dict[str, str]:
    """Return the sections of a page by title, without blocks that only look like one."""
    parts = re.split(r"^## (.+)$", page, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize(("name", "page"), component_pages().items())
def test_component_page_has_the_five_sections_in_order(name: str, page: Path) -> None:
    text = page.read_text()
    found = sections(text)
    assert list(found) == SECTIONS
    assert text.startswith(f"# {name}\n")
    assert all(part.strip() for part in found.values())


@pytest.mark.parametrize("page", component_pages().values(), ids=component_pages())
def test_example_of_component_page_is_a_valid_inventory(page: Path) -> None:
    examples = blocks(sections(page.read_text())["Example"], "yaml")
    assert examples
    for fragment in examples:
        validated(fragment)


def test_example_with_unknown_setting_is_refused() -> None:
    with pytest.raises(ValidationError, match="colour"):
        validated("bot: {colour: red}")
