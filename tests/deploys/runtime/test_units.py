"""The two units: whole files, and what must hold in them whatever else changes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from deploys.ops.files import rendered
from tests.deploys.golden import assert_golden

GOLDEN = Path(__file__).parent / "golden"
CREDENTIALS = ["console-jwt-secret", "telegram-secret-token", "telegram-token"]


def engine_unit() -> str:
    values = {"model_name": "smollm2-135m-q8_0", "memory_max": "1G", "release": "95a1b73a985f4f14"}
    return rendered("runtime/clawd-engine.service", values)


def bot_unit(*, with_engine: bool = True) -> str:
    values = {
        "with_engine": with_engine,
        "credentials": CREDENTIALS,
        "memory_max": "400M",
        "release": "7a5fbbacd4121e50",
    }
    return rendered("runtime/clawd-bot.service", values)


def test_engine_unit() -> None:
    assert_golden(GOLDEN / "clawd-engine.service", engine_unit())


def test_bot_unit() -> None:
    assert_golden(GOLDEN / "clawd-bot.service", bot_unit())


def test_neither_goes_down_with_the_other() -> None:
    for unit in (engine_unit(), bot_unit()):
        assert not [word for word in ("Requires=", "BindsTo=", "PartOf=") if word in unit]


def test_a_bot_without_an_engine_beside_it_does_not_ask_for_one() -> None:
    assert "clawd-engine" not in bot_unit(with_engine=False)
    assert "Wants=network-online.target\n" in bot_unit(with_engine=False)


@pytest.mark.parametrize("name", ["clawd-engine.service", "clawd-bot.service"])
def test_systemd_accepts_the_unit(name: str, tmp_path: Path) -> None:
    text = engine_unit() if "engine" in name else bot_unit()
    assert verified(tmp_path / name, text) == (0, "")
    misspelt = text.replace("ProtectSystem=strict", "ProtectSystem=very")
    status, said = verified(tmp_path / name, misspelt)
    assert status != 0 or "ProtectSystem" in said


def verified(file: Path, text: str) -> tuple[int, str]:
    file.write_text(text, encoding="utf-8")
    command = ["systemd-analyze", "verify", "--recursive-errors=no", str(file)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return run.returncode, "\n".join(line for line in run.stderr.splitlines() if file.name in line)
