"""Every kind of mistake gives file, line, column, what is wrong and what would be right.

A case changes one thing in a valid inventory; `‸` marks where the mistake must be reported.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from deploys.ports import RULES
from inventory.errors import InventoryError
from inventory.load import load
from tests import ggufs
from tests.inventory.conftest import VALID, private

ROLES = "    roles: [runtime, nginx]\n"
END = "    jwt_secret: !file jwt\n"

Cases = dict[str, tuple[str, str, str, str]]
"""kind: (what is replaced, by what, problem, advice)"""


def reported(cases: Cases) -> Callable[..., None]:
    """A test of each of `cases`: that this mistake is reported, and no other."""

    @pytest.mark.parametrize("kind", cases)
    def test_mistake(kind: str, laptop: Path) -> None:
        old, new, problem, advice = cases[kind]
        assert VALID.count(old) == 1, "the case must change exactly one place"
        private(laptop / "spaced", "has spaces in it, several")
        (laptop / "open").write_text("open")
        (laptop / "open").chmod(0o640)
        (laptop / "pointer.gguf").write_text("version https://git-lfs")
        (laptop / "key.asc").write_text("-----BEGIN PGP PUBLIC KEY BLOCK-----")
        private(laptop / "page.html", "<!DOCTYPE html>")
        private(laptop / "id.pub", "ssh-ed25519 AAAA me")
        private(laptop / "id.ssh2", "---- BEGIN SSH2 PUBLIC KEY ----\nAAAA\n")
        ggufs.write(laptop / "big.gguf", ggufs.of_size(400 << 20))
        line, column, text = place_and_text(VALID.replace(old, new))
        (laptop / "prod.yml").write_text(text)
        folders = {"{folder}": str(laptop), "{home}": str(laptop.parent / "home")}
        for name, folder in folders.items():
            problem, advice = problem.replace(name, folder), advice.replace(name, folder)

        with pytest.raises(InventoryError) as raised:
            load(Path("prod.yml"), more=RULES)

        assert [str(mistake) for mistake in raised.value.mistakes] == [
            f"prod.yml:{line}:{column}: {problem}\nhint: {advice}"
        ]

    return test_mistake


def place_and_text(marked: str) -> tuple[int, int, str]:
    before = marked.partition("‸")[0]
    return before.count("\n") + 1, len(before) - before.rfind("\n"), marked.replace("‸", "")
