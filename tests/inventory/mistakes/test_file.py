"""The file as YAML: what is no mapping, stands twice, or cannot be read."""

from __future__ import annotations

from tests.inventory.conftest import VALID
from tests.inventory.mistakes.case import END, Cases, reported

CASES: Cases = {
    "empty file": (VALID, "‸# nothing here\n", "the file is empty", "declare at least `hosts` and `models`"),
    "not a mapping": (
        VALID,
        "‸- hosts\n",
        "the file is not a mapping",
        "write keys with values: `hosts:`, `models:`, …",
    ),
    "tab": (
        "  bot1:\n",
        "‸\tbot1:\n",
        "found character '\\t' that cannot start any token",
        "indent with spaces, not with tabs",
    ),
    "colon in text": (
        "project: team",
        "project: a‸: b",
        "mapping values are not allowed here",
        "check the indentation, and quote a string that contains `: `",
    ),
    "unclosed bracket": (
        "nginx]\nbase:",
        "nginx\nbase‸:",
        "expected ',' or ']', but got ':'",
        "close the bracket, or put a comma between the items",
    ),
    "undefined alias": (
        "app_id: cli_1",
        "app_id: ‸*cli",
        "found undefined alias",
        "quote a string that begins with `*`, or define the anchor before it",
    ),
    "two documents": (
        END,
        END + "‸---\nproject: b\n",
        "but found another document",
        "write one inventory in each file: remove the `---`",
    ),
    "alias to itself": (
        "base:\n",
        "tls:\n  names: ‸&b [*b]\nbase:\n",
        "this alias refers to itself",
        "write the value out",
    ),
    "duplicate key": (
        "models:\n",
        "‸project: other\nmodels:\n",
        "duplicate key `project`, first in line 1",
        "keep one of the two",
    ),
    "unknown tag": (
        "!file secret-token",
        "‸!flie secret-token",
        "unknown tag `!flie`",
        "did you mean `!file`?",
    ),
    "control character": (
        "app_id: cli_1",
        'app_id: ‸"a\\0b"',
        "the string contains the character U+0000",
        "remove it",
    ),
    "infinite number": (
        "base:\n",
        "tls:\n  renew_fraction: ‸.inf\nbase:\n",
        "this number cannot be parsed",
        "write a decimal number, or quote it as a string",
    ),
}

test_mistake = reported(CASES)
