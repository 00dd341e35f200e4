"""Checks of the policy: its files can be read, and the bot's own code accepts it."""

from __future__ import annotations

from collections.abc import Iterator

from inventory.model import Inventory
from inventory.policy_files.assembly import assembled
from inventory.policy_files.trial import tried
from inventory.rule_findings import InventoryFinding

MOST_SHOWN = 20


def policy(inventory: Inventory) -> Iterator[InventoryFinding]:
    """Yield a finding for each mistake in the policy, or in a file that it names."""
    if inventory.policy is None:
        return
    found = assembled(inventory.policy)
    for problem in found.problems:
        yield InventoryFinding((("policy", *problem.at),), problem.problem, problem.advice)
    if found.problems:
        return
    problems = tried(found.text()).problems
    for line in problems[:MOST_SHOWN]:
        yield InventoryFinding(
            (("policy",),), line, "correct it, and try with `clawd-provision policy check FILE`"
        )
    if len(problems) > MOST_SHOWN:
        yield InventoryFinding(
            (("policy",),),
            f"there are {len(problems) - MOST_SHOWN} more mistakes",
            "list all with `clawd-provision policy check FILE`",
        )
