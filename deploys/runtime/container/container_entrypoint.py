"""First program in a container of the runtime: `container_entrypoint.py MODULE [argument …]`.

Its lines go to the socket of `container_supervisor.py` on the host, which stays while the Docker engine is
restarted. A separate program in the image; uses only the standard library.
"""

from __future__ import annotations

import os
import runpy
import socket
import sys
from pathlib import Path

LOG = "/run/attend/log"


def main() -> None:
    """Run MODULE as `python -m` does, with its lines going to the journal."""
    if Path(LOG).exists():
        line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        line.connect(LOG)
        for number in (1, 2):
            os.dup2(line.fileno(), number)
    os.umask(int(os.environ.get("UMASK", "077"), 8))
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
