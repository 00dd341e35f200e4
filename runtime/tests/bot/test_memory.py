"""Libraries that a configuration does not use are not imported: memory is short on hosts of 4 GB."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bot.program import RUNTIME

LOADS = """
import sys
import clawd_runtime.bot.service.main
from clawd_runtime.bot.channels.registry import channel_class
from clawd_runtime.bot.store.backends.database import open_database
for name in sys.argv[2:]:
    channel_class(name)
open_database(sys.argv[1]).close()
print(*sys.modules)
"""
NEVER = {"clawd_runtime.engine", "llama_cpp", "numpy", "jinja2", "jwt"}


def loaded(folder: Path, *channels: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-P", "-c", LOADS, f"sqlite:///{folder}/bot.db", *channels],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(RUNTIME)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=60,
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("channels", [("telegram", "console", "alerts"), ("feishu",)])
def test_unused_libraries_are_not_imported(tmp_path: Path, channels: tuple[str, ...]) -> None:
    found = loaded(tmp_path, *channels)
    assert not found & (NEVER | {"psycopg", "sqlalchemy.dialects.postgresql"})
    assert ("cryptography" in found) == ("feishu" in channels)
    assert "sqlalchemy.dialects.sqlite" in found
