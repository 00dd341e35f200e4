"""Loading any file ends in an inventory or in errors made for people."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from inventory.errors import ClawdError, InventoryError
from inventory.json_schema import FILE
from inventory.load import load
from inventory.model import Inventory
from inventory.public_view import public_view
from tests.inventory.conftest import ED25519, VALID

EXAMPLE = (FILE.parent / "example-prod.yml").read_text(encoding="utf-8")
LINES = [line for line in EXAMPLE.splitlines() if line.strip() and not line.lstrip().startswith("#")]
ODD = [
    "",
    "~",
    "[]",
    "{}",
    "- ",
    "[1, 2]",
    "{a: b}",
    "0",
    "-1",
    "1e999",
    "!env X",
    "!cmd true",
    "!x y",
    "'",
    '"',
    "*a",
    "&a",
    "<<: *a",
    "? ",
    ": ",
    "\t",
    "---",
    "%YAML 1.1",
    "|",
    "😀",
    "\x85",
    "\ufeff",
    "0x",
    "1_",
    "=",
    "2024-01-01",
]

quick = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)


def loads_or_says_why(folder: Path, content: bytes) -> None:
    file = folder / "any.yml"
    file.write_bytes(content)
    if (error := failure(file)) is None:
        return
    assert str(error)
    for mistake in error.mistakes if isinstance(error, InventoryError) else ():
        assert 1 <= mistake.line <= len(content.decode(errors="replace").splitlines()) + 1
        assert mistake.column >= 1
        assert mistake.problem
        assert mistake.advice


def failure(file: Path) -> ClawdError | None:
    try:
        load(file)
    except ClawdError as error:
        return error
    return None


@quick
@given(content=st.binary(max_size=200))
def test_loading_any_bytes_ends_in_an_inventory_or_a_reported_error(laptop: Path, content: bytes) -> None:
    loads_or_says_why(laptop, content)


@quick
@given(text=st.text(alphabet="ab:-[]{}&*!|>'\"#%@`,?<~ \n\t0.1é\\", max_size=80))
def test_loading_any_yaml_ends_in_an_inventory_or_a_reported_error(laptop: Path, text: str) -> None:
    loads_or_says_why(laptop, text.encode())


@st.composite
def mutated(draw: st.DrawFn) -> str:
    lines = list(LINES)
    for _ in range(draw(st.integers(1, 4))):
        index = draw(st.integers(0, len(lines) - 1))
        match draw(st.sampled_from(["drop", "value", "indent", "swap", "key", "insert"])):
            case "drop":
                del lines[index]
            case "value":
                lines[index] = f"{lines[index].partition(':')[0]}: {draw(st.sampled_from(ODD))}"
            case "indent":
                lines[index] = draw(st.sampled_from(["  ", "    ", ""])) + lines[index].lstrip()
            case "swap":
                other = draw(st.integers(0, len(lines) - 1))
                lines[index], lines[other] = lines[other], lines[index]
            case "key":
                indent = len(lines[index]) - len(lines[index].lstrip())
                rest = lines[index].lstrip().partition(":")[2]
                lines[index] = " " * indent + draw(st.text("abc_ []", max_size=4)) + ":" + rest
            case "insert":
                lines.insert(index, draw(st.sampled_from(ODD)))
    return "\n".join(lines)


@quick
@given(text=mutated())
def test_loading_a_mutated_example_ends_in_an_inventory_or_a_reported_error(laptop: Path, text: str) -> None:
    loads_or_says_why(laptop, text.encode())


names = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
sizes = st.integers(512, 9999).map(lambda number: f"{number}M")
texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=30)
# Ports that no listener has by default.
hosts = st.dictionaries(names, st.integers(30_000, 65_535), min_size=1, max_size=4).map(
    lambda named: {
        name: {"address": f"192.0.2.{index + 1}", "port": port, "internet": port % 2 == 0}
        for index, (name, port) in enumerate(named.items())
    }
)
inventories: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "project": names,
        "hosts": hosts,
        "models": st.fixed_dictionaries(
            {
                "default": st.fixed_dictionaries(
                    {
                        "engine": st.just("openai-compatible"),
                        "endpoint": st.just("https://x/v1"),
                        "model": texts,
                    }
                )
            }
        ),
    },
    optional={
        "base": st.fixed_dictionaries(
            {"journal_max": sizes, "operators": st.just([{"name": "a", "keys": [ED25519]}])}
        ),
        "bot": st.fixed_dictionaries(
            {
                "system_prompt": texts | st.just("two\nlines\n") | st.just("yes") | st.just("0x1f"),
                "max_reply_tokens": st.integers(16, 4096),
                "memory_max": sizes,
                "port": st.integers(20_000, 29_999),
            }
        ),
        "tls": st.fixed_dictionaries(
            {"lifetime_days": st.integers(1, 825), "renew_fraction": st.floats(0.001, 0.999)}
        ),
        "firewall": st.fixed_dictionaries({"management": st.just(["10.0.0.0/8", "2001:db8::/32"])}),
    },
)


QUESTION_MARK: dict[str, Any] = {
    "hosts": {"bot1": {"address": "192.0.2.1"}},
    "models": {"default": {"engine": "openai-compatible", "endpoint": "https://x/v1", "model": "?0"}},
}


@quick
@example(data=QUESTION_MARK)
@given(data=inventories)
def test_dumped_inventory_loads_as_the_same(laptop: Path, data: dict[str, Any]) -> None:
    declared = Inventory.model_validate(data)
    stream = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False  # as people write it; in braces the library does not read its own `?0`
    yaml.dump(without_nothing(public_view(declared)), stream)
    (laptop / "any.yml").write_text(stream.getvalue(), encoding="utf-8")
    assert load(laptop / "any.yml").inventory == declared


def without_nothing(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: without_nothing(value) for key, value in data.items() if value is not None}
    return data


@pytest.mark.parametrize("length", range(0, len(VALID), 7))
def test_loading_a_truncated_file_ends_in_an_inventory_or_a_reported_error(laptop: Path, length: int) -> None:
    loads_or_says_why(laptop, VALID[:length].encode())
