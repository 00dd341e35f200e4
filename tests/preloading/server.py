"""Import modules once, and run programs in forks. See the package for its use.

Each program has a keeper, which reports its exit code to the client and kills it when the client is gone.
"""

from __future__ import annotations

import gc
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

ROOT = Path(__file__).resolve().parents[2]
# gevent replaces these as soon as pyinfra is imported; the server needs the originals.
fork, waitpid, close = os.fork, os.waitpid, os.close
Socket, ready = socket.socket, select.select

PROGRAMS = {
    "pyinfra": ("pyinfra_cli.main", "main"),
    "clawd-provision": ("cli", "main"),
    "pytest": ("pytest", "main"),
}
"""Module and function of each program."""
BOTH = ("cli", "deploys.ports", "inventory.load", "provision.reporting.display", "provision.selection")
PLAIN = (*BOTH, "provision.chat", "provision.sandbox")
ON_GEVENT = (
    *("pyinfra_cli.main", "pyinfra.connectors.ssh", "deploys.registry", *BOTH),
    *("pytest", "provision.pipeline", "provision.verification.plugin"),
)
"""What the programs import; those on gevent import the components' checks, too."""
FILES = range(64)
"""Numbers of files that programs may be given; everything of the server itself has higher ones."""


def serve(address: str, on_gevent: bool) -> None:
    """Serve until standard input ends."""
    while os.open(os.devnull, os.O_RDONLY) < FILES[-1]:
        pass
    part, modules = ("verify", ON_GEVENT) if on_gevent else ("settings", PLAIN)
    of_components = sorted(path.parent.name for path in ROOT.glob(f"deploys/*/{part}.py"))
    for module in (*modules, *(f"deploys.{name}.{part}" for name in of_components)):
        import_module(module)
    if on_gevent:
        preloading = import_module("tests.preloading")
        preloading.verify_with(preloading.client(address, "pytest"))
    gc.collect()
    gc.freeze()
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
    """Run the program that the client asks for, and report its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, files, _, _ = socket.recv_fds(client, 8, len(FILES))
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
        if gevent := sys.modules.get("gevent"):
            gevent.reinit()
        client.close()
        close(ended)
        os.set_inheritable(running, False)
        run(json.loads(request), files)
    close(running)
    for descriptor in files:
        close(descriptor)
    while ended not in ready([client.fileno(), ended], [], [])[0]:
        # The client passes on signals; it sends none any more when it was killed.
        os.kill(pid, (client.recv(1) or bytes([signal.SIGKILL]))[0])
    _, status = waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    try:
        client.sendall(str(code if code >= 0 else 128 - code).encode())
    finally:
        os._exit(0)


def run(request: dict[str, Any], files: list[int]) -> NoReturn:
    """Run a program as the main program of this process."""
    for source, number in zip(files, request["files"], strict=True):
        os.dup2(source, number)
        close(source)
    for number in FILES:
        if number not in request["files"]:
            close(number)
    sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", closefd=False, errors="backslashreplace", buffering=1)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.argv = [request["program"], *request["arguments"]]
    if request["program"] == "pyinfra":
        sys.path.insert(0, request["folder"])  # as `python -m` does
    module, function = PROGRAMS[request["program"]]
    code = 1
    try:
        code = int(getattr(import_module(module), function)() or 0)
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else 0 if ending.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    sys.path[0] = str(ROOT)
    serve(sys.argv[1], on_gevent=sys.argv[2] == "gevent")
