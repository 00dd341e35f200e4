"""What checks conclude from the state of a unit on a host."""

from __future__ import annotations

import pytest

from deploys.ops.checks import CheckFailed, expect_unit


class ScriptedHost:
    """A host on which a unit runs, that systemd restarted; it has been up for an hour."""

    def __init__(self, restarts: int, active_for: int) -> None:
        self.shown = {
            "LoadState": "loaded",
            "ActiveState": "active",
            "UnitFileState": "enabled",
            "Result": "success",
            "NeedDaemonReload": "no",
            "DropInPaths": "",
            "NRestarts": str(restarts),
            "ActiveEnterTimestampMonotonic": str((3600 - active_for) * 1_000_000),
        }

    def check_output(self, command: str, *words: str) -> str:
        if command == "cat /proc/uptime":
            return "3600.25 7000.00"
        assert command.startswith("systemctl show --property")
        return "\n".join(f"{name}={self.shown[name]}" for name in words[0].split(","))


def test_service_that_keeps_ending_fails_its_check_while_it_happens_to_run() -> None:
    with pytest.raises(CheckFailed) as failed:
        expect_unit(ScriptedHost(restarts=41, active_for=2), "clawd-bot.service")
    assert failed.value.problem == (
        "clawd-bot.service keeps ending: systemd restarted it 41 times, last 2 s ago"
    )
    assert "journalctl --namespace='*' -u clawd-bot.service" in failed.value.hint


@pytest.mark.parametrize(("restarts", "active_for"), [(0, 1), (2, 1), (41, 900)])
def test_service_that_was_killed_once_or_runs_again_for_long_passes(restarts: int, active_for: int) -> None:
    expect_unit(ScriptedHost(restarts, active_for), "clawd-bot.service")
