"""Have the server run a program as if it were this process; exit with its code."""

import json
import os
import signal
import socket
import sys
from pathlib import Path


def passed_on(file: int) -> bool:
    """Return whether this process was started with this file."""
    try:
        return os.get_inheritable(file)
    except OSError:
        return False


files = [file for file in range(64) if passed_on(file)]
address, program, *arguments = sys.argv[1:]
with socket.socket(socket.AF_UNIX) as server:
    server.connect(address)
    asked = {"program": program, "arguments": arguments, "folder": str(Path.cwd()), "files": files}
    request = json.dumps({**asked, "environment": dict(os.environ)}).encode()
    socket.send_fds(server, [len(request).to_bytes(8, "big")], files)
    server.sendall(request)
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda number, _: server.sendall(bytes([number])))
    status = server.recv(4)
os._exit(int(status) if status else 1)
