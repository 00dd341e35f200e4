"""Import modules once, and run programs in forks. See the package for its use.

Each program has a keeper, which tells the client its exit code and kills it when the client is gone.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

# gevent replaces these as soon as pyinfra is imported; the server needs the originals.
fork, waitpid, close = os.fork, os.waitpid, os.close
Socket, ready = socket.socket, select.select

PROGRAMS = {"pyinfra": ("pyinfra_cli.main", "main")}
"""Module and function of each program."""
ALSO = ("pyinfra.connectors.ssh", "deploys.registry")
"""Modules that programs import later."""


def serve(address: str) -> None:
    """Serve until standard input ends."""
    for module in (*(module for module, _ in PROGRAMS.values()), *ALSO):
        import_module(module)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with Socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen(64)
        os.write(1, b"+")
        while True:
            readable, _, _ = ready([server.fileno(), 0], [], [])
            if 0 in readable:
                return
            descriptor, _ = server._accept()  # type: ignore[attr-defined]
            client = Socket(fileno=descriptor)
            if fork() == 0:
                server.close()
                keep(client)
            client.close()


def keep(client: socket.socket) -> NoReturn:
    """Run the program that the client asks for, and tell it the exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, files, _, _ = socket.recv_fds(client, 8, 3)
    length = int.from_bytes(size, "big")
    request = b""
    while len(request) < length:
        piece = client.recv(length - len(request))
        if not piece:
            os._exit(1)
        request += piece
    ended, running = os.pipe()
    pid = fork()
    if pid == 0:
        import_module("gevent").reinit()
        client.close()
        close(ended)
        os.set_inheritable(running, False)
        run(json.loads(request), files)
    close(running)
    for descriptor in files:
        close(descriptor)
    readable, _, _ = ready([client.fileno(), ended], [], [])
    if ended not in readable:
        os.kill(pid, signal.SIGKILL)
    _, status = waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    try:
        client.sendall(str(code if code >= 0 else 128 - code).encode())
    finally:
        os._exit(0)


def run(request: dict[str, Any], files: list[int]) -> NoReturn:
    """Run a program as the main program of this process."""
    for descriptor, file in enumerate(files):
        os.dup2(file, descriptor)
        close(file)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.argv = [request["program"], *request["arguments"]]
    sys.path[0] = request["folder"]
    module, function = PROGRAMS[request["program"]]
    code = 1
    try:
        getattr(import_module(module), function)()
        code = 0
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else 0 if ending.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    serve(sys.argv[1])
