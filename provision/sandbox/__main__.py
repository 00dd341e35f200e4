"""The command `python -m provision.sandbox down`, which removes the sandbox with Python alone.

It serves a checkout whose virtual environment was removed while its hosts still run.
"""

from __future__ import annotations

import sys

from inventory.errors import ClawdError
from provision import sandbox


def main(words: list[str]) -> int:
    """Remove this checkout's sandboxes, their keys and secrets, and leftovers of killed runs."""
    if words != ["down"]:
        print("usage: python -m provision.sandbox down", file=sys.stderr)
        return 1
    try:
        sandbox.down(purge=True, progress=_print_progress)
        sandbox.clear(progress=_print_progress)
    except ClawdError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def _print_progress(message: str, _: float | None) -> None:
    print(message, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
