"""Warnings are shown once: a later run counts those that hold still."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from provision.reporting.display import TerminalProgress
from provision.reporting.known_warnings import REPEATED_AFTER, KnownWarnings
from provision.reporting.terminal import View

SYSCTL = "bot1: this host refuses 3 kernel settings"


def run(inventory: Path, *messages: str, now: float = 1000.0, view: View = View()) -> str:  # noqa: B008
    """Return what a run with these warnings prints."""
    screen = io.StringIO()
    known = KnownWarnings(inventory, lambda: now)
    with TerminalProgress(Console(file=screen, width=200), view, known.is_new) as progress:
        for message in messages:
            progress.warn(message)
        progress.say_repeated()
        assert progress.warnings == list(dict.fromkeys(messages))
    known.save()
    return screen.getvalue()


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


def test_warning_of_an_earlier_run_is_counted_and_not_repeated(tmp_path: Path) -> None:
    prod = tmp_path / "prod.yml"
    assert run(prod, SYSCTL) == f"warning: {SYSCTL}\n"
    assert run(prod, SYSCTL) == "1 earlier warning still applies: use --verbose for details\n"
    assert (
        run(prod, SYSCTL, "new")
        == "warning: new\n1 earlier warning still applies: use --verbose for details\n"
    )


def test_verbose_shows_known_warnings(tmp_path: Path) -> None:
    run(tmp_path / "prod.yml", SYSCTL)
    assert f"warning: {SYSCTL}" in run(tmp_path / "prod.yml", SYSCTL, view=View(verbose=True))


def test_warning_is_shown_once_within_a_run(tmp_path: Path) -> None:
    assert run(tmp_path / "prod.yml", SYSCTL, SYSCTL) == f"warning: {SYSCTL}\n"


def test_warnings_are_remembered_per_inventory(tmp_path: Path) -> None:
    run(tmp_path / "prod.yml", SYSCTL)
    assert run(tmp_path / "test.yml", SYSCTL) == f"warning: {SYSCTL}\n"


def test_warning_is_shown_again_after_a_long_time(tmp_path: Path) -> None:
    run(tmp_path / "prod.yml", SYSCTL)
    assert "warning" in run(tmp_path / "prod.yml", SYSCTL, now=1000.0 + REPEATED_AFTER + 1)


@pytest.mark.parametrize("damage", [b"", b"[]", b"{", b"\xff", b'{"a": "b"}', b"[" * 9000])
def test_damaged_file_of_known_warnings_is_ignored(tmp_path: Path, state: Path, damage: bytes) -> None:
    run(tmp_path / "prod.yml", SYSCTL)
    (file,) = state.rglob("*.json")
    file.write_bytes(damage)
    assert run(tmp_path / "prod.yml", SYSCTL) == f"warning: {SYSCTL}\n"
