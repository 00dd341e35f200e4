"""Files that users or others added to folders of packages in /etc: named in the plan, and kept over a purge.

A purge removes such folders whole. What was added is in an archive next to the component's record from before
the purge until it is in place again. A run that is interrupted leaves the archive to the next one.
"""

from __future__ import annotations

from dataclasses import dataclass

from deploys.ops.facts import Fact
from deploys.ops.paths import originals
from deploys.ops.programs import program
from deploys.ops.shell import assignments

MOUNTS = "/proc/self/mountinfo"
"""What is mounted, a line each; see proc(5)."""


@dataclass(frozen=True, slots=True)
class Added:
    """The added `files`, and in `obstacles` the reasons for the user why they cannot be kept."""

    files: tuple[str, ...] = ()
    obstacles: tuple[str, ...] = ()


class AddedFact(Fact):
    """Return the files that were added to folders of packages; `folders` as `added` reads them."""

    def command(self, component: str, packages: str, folders: str) -> str:
        """Return a script that prints `file` or `obstacle`, and a path or a reason a line."""
        asked = assignments(**values(component), packages=packages, folders=folders)
        return asked + _ADDED

    @staticmethod
    def default() -> Added:
        """Return that there is none."""
        return Added()

    def process(self, output: list[str]) -> Added:
        """Turn the script's lines into `Added`."""
        rows = [line.partition(" ")[::2] for line in output if line]
        files, obstacles = (
            tuple(sorted(text for kind, text in rows if kind == wanted)) for wanted in ("file", "obstacle")
        )
        return Added(files, obstacles)


def values(component: str) -> dict[str, str]:
    """Return the shell variables of `added.sh` and `set_aside.sh`, but for the record of the packages."""
    owner = component.partition("-")[0]
    stage = f"{originals.ETC}/.clawd-added-{component}"
    return {**originals.values(owner), "mounts": MOUNTS, "stage": stage}


_ADDED = program("deploys/ops/debian/scripts/added_files.sh")
