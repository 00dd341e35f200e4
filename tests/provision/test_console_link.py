"""Links that log people in at the page in the browser."""

from __future__ import annotations

from pathlib import Path

import jwt
import pytest

from commands.console import LONGEST_MINUTES
from inventory.errors import ClawdError
from inventory.load import LoadedInventory
from provision.console_link import AUDIENCE, page_link
from tests.provision.test_chat import SECRET, loaded


def declared(folder: Path, **console: object) -> LoadedInventory:
    authority = folder / ".clawd" / "team" / "ca" / "ca.pem"
    authority.parent.mkdir(parents=True)
    authority.touch()
    return loaded(folder, ("bot.example.com",), console={"jwt_secret": SECRET, **console})


def test_link_has_a_token_for_one_user_and_one_login(tmp_path: Path) -> None:
    inventory = declared(tmp_path)
    made = page_link(inventory, "Ada 林", 10, 1_000_000.0)
    links = [made.url, page_link(inventory, "Ada 林", 10, 1_000_000.0).url]
    address, _, token = links[0].partition("#login=")
    assert address == "https://bot.example.com/console/"
    claims = jwt.decode(token, SECRET, algorithms=["HS256"], audience=AUDIENCE, options={"verify_exp": False})
    assert (claims["sub"], claims["exp"]) == ("Ada 林", 1_000_600)
    assert links[0] != links[1]
    assert token not in repr(made)
    assert made.authority == tmp_path / ".clawd" / "team" / "ca" / "ca.pem"


def test_longest_link_is_valid_for_no_more_than_a_day(tmp_path: Path) -> None:
    token = page_link(declared(tmp_path), "ada", LONGEST_MINUTES, 1_000_000.0).url.partition("#login=")[2]
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == 24 * 3600


def test_console_without_a_page_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ClawdError, match="the console has no page in the browser"):
        page_link(declared(tmp_path, page=False), "ada", 10, 0.0)


def test_inventory_without_a_console_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ClawdError, match="has no console"):
        page_link(loaded(tmp_path, ()), "ada", 10, 0.0)
