"""Removal of a component from a host: the files that it replaced are restored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any

from pyinfra import host
from pyinfra.api import StringCommand, deploy
from pyinfra.api.operation import OperationMeta

from deploys.ops.diff import operation, record
from deploys.ops.facts import Fact
from deploys.ops.paths.originals import ORIGINALS, values
from deploys.ops.programs import program
from deploys.ops.run_state import Change, run_state
from deploys.ops.shell import assignments, script

ORPHANED = "the account that owns its folder is gone"
VERIFIED = "/var/lib/clawd/state/verified"
"""Folder with the result of each component's last verification; see `provision.verification.results`."""


def removal(
    name: str,
    *,
    exempt: Callable[[], Mapping[str, str]] = dict,
    afterwards: Callable[[], None] = lambda: None,
) -> Callable[[Callable[[], None]], Any]:
    """Return a decorator for the deploy `Remove NAME`, which then restores replaced files.

    `name` is that of the component's `apply` deploy: under it the originals are kept. `exempt` returns paths
    that stay as they are, with the reason; it is called first. `afterwards` removes what is needed to put the
    originals back.
    """

    def decorated(remove: Callable[[], None]) -> Any:
        @wraps(remove)
        def removed() -> None:
            stay = exempt()
            remove()
            put_back(name.lower(), stay)
            afterwards()

        return deploy(f"Remove {name}")(removed)

    return decorated


class ForeignUnitFact(Fact):
    """Whether a unit is of a package that no component installed, so that it stays when a component goes."""

    def command(self, unit: str, owner: str) -> str:
        """Return a script that prints `foreign` or nothing."""
        return assignments(**values(owner), unit=unit) + _FOREIGN_UNIT

    @staticmethod
    def default() -> bool:
        """Return False."""
        return False

    def process(self, output: list[str]) -> bool:
        """Return whether the script printed `foreign`."""
        return output == ["foreign"]


_FOREIGN_UNIT = program("deploys/ops/scripts/foreign_unit.sh")


@dataclass(frozen=True, slots=True)
class Originals:
    """The originals of a component: the paths of `kept` ones, and whether anything is `noted` at all.

    `orphaned` are those in folders whose owner no longer has an account. `verified`: whether the result of
    its last verification is recorded.
    """

    kept: tuple[str, ...] = ()
    noted: bool = False
    orphaned: tuple[str, ...] = ()
    verified: bool = False


class OriginalsFact(Fact):
    """The originals that are kept for a component."""

    def command(self, owner: str) -> str:
        """Return a script that prints `verified`, `noted`, and one line per path, `kept` or `orphaned`."""
        return assignments(**values(owner), verified=VERIFIED) + _KEPT

    @staticmethod
    def default() -> Originals:
        """Return nothing."""
        return Originals()

    def process(self, output: list[str]) -> Originals:
        """Turn the script's lines into `Originals`."""
        rows = [line.partition(" ")[::2] for line in output if line]
        kinds = {kind for kind, _ in rows}
        kept, orphaned = (
            tuple(path for kind, path in rows if kind == wanted) for wanted in ("kept", "orphaned")
        )
        return Originals(kept, "noted" in kinds, orphaned, "verified" in kinds)


_KEPT = program("deploys/ops/scripts/kept.sh")


def put_back(owner: str, exempt: Mapping[str, str] | None = None, **arguments: Any) -> OperationMeta:
    """Put back everything that the component `owner` replaced, and delete its notes.

    The paths in `exempt` are not restored, for the reason given there, nor those in folders without an owner.

    Units that `deploys.ops.units.absent` left to the administrator are restarted with the originals.
    """
    arguments.setdefault("name", f"Files as before {owner}")
    return _put_back(owner, exempt or {}, **arguments)


@operation
def _put_back(owner: str, exempt: Mapping[str, str]) -> Iterator[StringCommand]:
    state: Originals = host.get_fact(OriginalsFact, owner=owner)
    going_on = sorted(set(run_state(host).resuming_units.get(owner, [])))
    if not state.noted and not state.verified and not going_on:
        return
    going_back = [path for path in state.kept if path not in exempt]
    for path in going_back:
        record(Change(path, ("original restored",)))
    for path in (*state.kept, *state.orphaned):
        if path not in going_back:
            record(Change(path, (f"not restored: {exempt.get(path, ORPHANED)}",)))
    for unit in going_on:
        record(Change(unit, ("restart with what was there before",)))
    if not state.kept and not state.orphaned and not going_on:
        if state.noted:
            why = "removed: no files of others were replaced"
            record(Change(f"{ORIGINALS}/{owner}", (why,)))
        else:
            record(Change(f"{VERIFIED}/{owner}", ("removed: there is nothing left to verify",)))
    yield script(
        _PUT_BACK,
        **values(owner),
        paths="\n".join(going_back),
        units=" ".join(going_on),
        verified=VERIFIED,
    )


_PUT_BACK = program("deploys/ops/scripts/put_back.sh")
