from __future__ import annotations

import os
from pathlib import Path

import pytest

from inventory.errors import SandboxError
from provision.sandbox import commands


def test_missing_tools_are_found_with_their_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "_search_path", lambda: str(tmp_path))
    assert set(commands.missing_tools()) == set(commands.PACKAGES)
    assert commands.install_command(["ssh", "ssh-keygen", "nft"])[-2:] == ["nftables", "openssh-client"]


def test_install_command_is_shown_without_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "_search_path", lambda: str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SandboxError, match=r"sudo apt-get install .*mmdebstrap.*systemd-container") as caught:
        commands.ensure_tools()
    assert "cannot start the sandbox: not installed:" in caught.value.message


def test_output_of_a_failing_program_is_reported() -> None:
    with pytest.raises(SandboxError, match="exit code 3: it went wrong"):
        commands.run(["sh", "-c", "echo it went wrong >&2; exit 3"])


def test_missing_program_is_reported_with_a_hint() -> None:
    with pytest.raises(SandboxError, match="cannot run no-such-program: it is not installed"):
        commands.run(["no-such-program"])


def test_hanging_program_is_killed() -> None:
    with pytest.raises(SandboxError, match="did not end within"):
        commands.run(["sleep", "30"], timeout=0.2)
