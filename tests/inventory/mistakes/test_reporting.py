"""How mistakes are reported: all that there are, each once."""

from __future__ import annotations

import json
import re
from importlib import import_module
from pathlib import Path

import pytest
from pydantic import BaseModel

from inventory.errors import InventoryError
from inventory.load import load
from inventory.model import Inventory
from inventory.reading.error_messages import PATTERN_WORDS
from tests.inventory.conftest import VALID


def test_at_least_20_kinds_of_mistakes_are_tested() -> None:
    others = [file.stem for file in Path(__file__).parent.glob("test_*.py") if file != Path(__file__)]
    modules = [import_module(f"tests.inventory.mistakes.{name}") for name in others]
    cases = [case for module in modules for case in module.CASES.values()]
    assert len(cases) >= 20
    assert len({case[2:] for case in cases}) > 0.9 * len(cases)


def test_mistakes_are_reported_at_once_in_file_order(laptop: Path) -> None:
    (laptop / "prod.yml").write_text(
        "project: Team\n"
        "hosts:\n"
        "  bot1:\n"
        "    adress: 192.0.2.11\n"
        "    port: 0\n"
        "  bot2:\n"
        "    address: -x\n"
        "    roles: [runtime, gateway]\n"
        "base: {time_zone: Mars}\n"
        "models:\n"
        "  default: {engine: llama-cpp, path: m.gguf, url: 'https://x/m.gguf'}\n"
        "channels:\n"
        "  console: {jwt_secret: plain}\n"
        "bot: {port: 8080, memory_max: 1T}\n"
    )
    with pytest.raises(InventoryError) as raised:
        load(Path("prod.yml"))
    found = [(mistake.line, mistake.column) for mistake in raised.value.mistakes]
    assert found == [
        (1, 10),  # project
        (3, 3),  # address missing
        (4, 5),  # adress
        (5, 11),  # port
        (7, 14),  # address
        (8, 22),  # gateway
        (9, 19),  # Mars
        (11, 51),  # url without sha256
        (13, 25),  # plain-text secret
        (14, 31),  # memory_max
    ]


def test_unreadable_roles_cause_no_further_mistakes(laptop: Path) -> None:
    """Roles that cannot be read say nothing about whether a runtime host is there."""
    (laptop / "prod.yml").write_text(VALID.replace("[runtime, nginx]", "[runtme, ngnix]"))
    with pytest.raises(InventoryError) as raised:
        load(Path("prod.yml"))
    assert [mistake.advice for mistake in raised.value.mistakes] == [
        "did you mean `runtime`?",
        "did you mean `nginx`?",
    ]


def test_mistake_does_not_hide_others_in_its_section(laptop: Path) -> None:
    """Settings next to a mistake are still compared with the rest."""
    (laptop / "prod.yml").write_text(VALID + "bot: {port: 443, memory_max: 1T}\n")
    with pytest.raises(InventoryError) as raised:
        load(Path("prod.yml"))
    assert [(mistake.line, mistake.column) for mistake in raised.value.mistakes] == [(27, 13), (27, 30)]


def test_every_pattern_of_the_schema_has_a_message() -> None:
    text = '("(?:[^"\\\\]|\\\\.)*")'
    written = re.findall(f'"pattern": {text}|"patternProperties": {{{text}', schema_of(Inventory))
    patterns = {json.loads(value or key) for value, key in written}
    assert patterns
    assert patterns == set(PATTERN_WORDS)


def schema_of(model: type[BaseModel]) -> str:
    return json.dumps(model.model_json_schema(), ensure_ascii=False)
