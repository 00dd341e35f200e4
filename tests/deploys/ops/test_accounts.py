"""Users and groups: facts given, commands expected."""

from __future__ import annotations

from pyinfra import host

from deploys.ops import accounts
from deploys.ops.accounts import GroupFact, UserFact, UserState
from tests.deploys.harness import Machine

ANNA = UserState("/home/anna", "anna", frozenset({"anna", "clawd-operators"}))


def planned(user: UserState | None, what: str) -> list[tuple[str, ...]]:
    make = {
        "person": lambda: accounts.person("anna", home="/home/anna", groups=("clawd-operators",)),
        "retired": lambda: accounts.retired("anna", group="clawd-operators"),
    }[what]
    return [change.diff for change in Machine(facts={UserFact: user}).run(make, execute=False).changes]


def test_person_creates_or_unlocks_a_login() -> None:
    assert planned(None, "person") == [("new user, home /home/anna, groups clawd-operators",)]
    assert planned(ANNA, "person") == []
    assert planned(UserState("/home/anna", "anna"), "person") == [("may log in, groups clawd-operators",)]
    expired = UserState("/home/anna", "anna", frozenset({"clawd-operators"}), expired=True)
    assert planned(expired, "person") == [("may log in, groups clawd-operators",)]


def test_retired_expires_an_existing_login() -> None:
    assert len(planned(ANNA, "retired")) == 1
    assert planned(None, "retired") == []
    assert planned(UserState("/home/anna", "anna", expired=True), "retired") == []


def test_group_is_created_when_missing() -> None:
    make = lambda: accounts.group("clawd")  # noqa: E731
    assert Machine(facts={GroupFact: None}).run(make, execute=False).predicted
    assert not Machine(facts={GroupFact: frozenset()}).run(make, execute=False).predicted


def test_user_and_group_facts_read_this_machine() -> None:
    found: list[object] = []

    def ask() -> None:
        found.append(host.get_fact(UserFact, user="root"))
        found.append(host.get_fact(UserFact, user="no-such-user"))
        found.append(host.get_fact(GroupFact, group="root"))
        found.append(host.get_fact(GroupFact, group="no-such-group"))

    Machine().run(ask)
    root, missing_user, group, none = found
    assert isinstance(root, UserState)
    assert (root.home, root.group) == ("/root", "root")
    assert (missing_user, group, none) == (None, frozenset(), None)
