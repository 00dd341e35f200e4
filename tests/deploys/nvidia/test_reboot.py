"""A host that comes back within a run, told by a connection that is none."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from deploys.nvidia import reboot
from deploys.nvidia.reboot import RECONNECTED, RebootCommand
from inventory.errors import LockHeldError


class Host:
    """Says another boot id after it was disconnected and connected to again."""

    def __init__(self, *again: Callable[[], None], needed: bool = True) -> None:
        self.connector_data: dict[str, Any] = {RECONNECTED: list(again)} if again else {}
        self.connected, self.boots, self._needed = True, 1, needed

    def run_shell_command(self, *_: Any, **__: Any) -> tuple[bool, Any]:
        return True, SimpleNamespace(stdout=f"boot {self.boots}" if self._needed else "loaded")

    def disconnect(self) -> None:
        self.boots += 1

    def connect(self, *, raise_exceptions: bool) -> None:
        self.connected = raise_exceptions


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reboot.time, "sleep", lambda _: None)


def test_what_the_old_connection_held_is_taken_up_once_it_is_back() -> None:
    seen: list[int] = []
    host = Host(lambda: seen.append(host.boots))
    assert RebootCommand("").execute(None, host, {})[0]
    assert seen == [2]


def test_the_run_ends_there_when_it_cannot_be() -> None:
    def taken() -> None:
        raise LockHeldError("gpu1: locked by anna@laptop", advice="run the command again later")

    succeeded, output = RebootCommand("").execute(None, Host(taken), {})
    assert not succeeded
    assert output.stderr.splitlines()[0] == "gpu1: locked by anna@laptop"


def test_without_a_reboot_nothing_is_taken_up() -> None:
    host = Host(lambda: pytest.fail("the connection is the old one"), needed=False)
    assert RebootCommand("").execute(None, host, {})[0]


def test_plain_pyinfra_has_nothing_to_take_up() -> None:
    assert RebootCommand("").execute(None, Host(), {})[0]
