"""`python -m provision.sandbox down`: removes what the sandbox made, with nothing but Python itself.

For a checkout whose environment is gone while its hosts still run.
"""

from __future__ import annotations

import sys

from inventory.errors import ClawdError
from provision import sandbox


def main(words: list[str]) -> int:
    """Remove this checkout's sandboxes, their keys and secrets, and what killed runs left behind."""
    if words != ["down"]:
        print("usage: python -m provision.sandbox down", file=sys.stderr)
        return 1
    try:
        sandbox.down(purge=True, progress=_tell)
        sandbox.clear(progress=_tell)
    except ClawdError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def _tell(message: str, _: float | None) -> None:
    print(message, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
