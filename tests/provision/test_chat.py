"""Where the console of a deployed bot is."""

from __future__ import annotations

from pathlib import Path

import pytest

from inventory.errors import ClawdError
from inventory.load import Loaded
from inventory.model import Inventory
from provision.chat import console_of


def loaded(folder: Path, names: tuple[str, ...], **channels: object) -> Loaded:
    declared = {
        "project": "team",
        "hosts": {"front": {"address": "192.0.2.1"}},
        "models": {"default": {"engine": "openai-compatible", "endpoint": "https://models.example.com/v1"}},
        "tls": {"names": names},
        "channels": channels,
    }
    return Loaded(Inventory.model_validate(declared), folder / "team.yml")


@pytest.mark.parametrize(
    ("names", "at"),
    [
        ((), "192.0.2.1"),
        (("bot.example.com", "other.example.com"), "bot.example.com"),
        (("*.example.com", "bot.example.com"), "bot.example.com"),
        (("*.example.com",), "192.0.2.1"),
        (("2001:db8::1",), "[2001:db8::1]"),
    ],
)
def test_the_address_is_one_that_can_be_asked(tmp_path: Path, names: tuple[str, ...], at: str) -> None:
    authority = tmp_path / ".clawd" / "team" / "ca" / "ca.pem"
    authority.parent.mkdir(parents=True)
    authority.touch()
    console = console_of(loaded(tmp_path, names, console={"jwt_secret": "s" * 40}))
    assert console.url == f"https://{at}:443/console/v1/messages"
    assert (console.host, console.authority) == ("front", authority)
    assert "sss" not in repr(console)


def test_a_bot_without_a_console_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(ClawdError, match="has no console"):
        console_of(loaded(tmp_path, ()))
