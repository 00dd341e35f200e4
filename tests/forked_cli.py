"""The command line in forks of a process that has imported its modules.

A command that ends early spends nearly all of its time on imports. Each call here has arguments, environment,
folder and standard streams of its own, and ends as any Python program does. What depends on how Python
itself starts (encodings, closed streams, the installed program) is tested with `cli.py` as a program.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 60
# These commands run without gevent; all others about hosts run with it.
WITHOUT_GEVENT = ("chat", "completion", "inventory", "sandbox")


def run(
    *words: str | bytes,
    cwd: Path | bytes = ROOT,
    environment: Mapping[str, str | bytes] | None = None,
    typed: bytes = b"",
) -> subprocess.CompletedProcess[bytes]:
    """Run the program with `words`; `environment` adds to the one of this process."""
    return _server(words[0] not in WITHOUT_GEVENT).run(words, cwd, environment or {}, typed)


@functools.cache
def _server(on_gevent: bool) -> Server:
    return Server(on_gevent)


class Server:
    """The process that forks; it ends when this one does."""

    def __init__(self, on_gevent: bool) -> None:
        self._one_at_a_time = threading.Lock()
        requests, self._requests = os.pipe()
        self._results, results = os.pipe()
        command = f"from tests.forked_cli import serve; serve({requests}, {results}, {on_gevent})"
        self._process = subprocess.Popen(
            [sys.executable, "-c", command],
            cwd=ROOT,
            pass_fds=(requests, results),
            stdin=subprocess.DEVNULL,
        )
        os.close(requests)
        os.close(results)
        self._read = os.fdopen(self._results, "rb")
        atexit.register(self.close)

    def close(self) -> None:
        """Stop the process."""
        os.close(self._requests)
        self._process.wait(SECONDS)
        self._read.close()

    def run(
        self,
        words: Sequence[str | bytes],
        cwd: Path | bytes,
        environment: Mapping[str, str | bytes],
        typed: bytes,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run one command to its end."""
        with self._one_at_a_time, tempfile.TemporaryDirectory(prefix="cli-") as name:
            streams = [Path(name) / stream for stream in ("stdin", "stdout", "stderr")]
            streams[0].write_bytes(typed)
            request = {
                "words": [os.fsdecode(word) for word in words],
                "cwd": os.fsdecode(cwd),
                "environment": {
                    **os.environ,
                    **{name: os.fsdecode(environment[name]) for name in environment},
                },
                "streams": [str(stream) for stream in streams],
            }
            os.write(self._requests, json.dumps(request).encode() + b"\n")
            code = int(self._read.readline())
            return subprocess.CompletedProcess(
                list(words), code, streams[1].read_bytes(), streams[2].read_bytes()
            )


def serve(requests: int, results: int, on_gevent: bool) -> None:
    """Fork for every request, and write the exit code. A fork returns from here as the program."""
    sys.path[0] = str(ROOT)
    if on_gevent:
        from provision.local import concurrency

        concurrency.enable()
    _import_all(on_gevent)
    from gevent import monkey

    fork: Callable[[], int] = monkey.get_original("os", "fork")
    wait: Callable[[int, int], tuple[int, int]] = monkey.get_original("os", "waitpid")
    gc.collect()
    gc.freeze()
    with os.fdopen(requests, "rb") as lines:
        while line := lines.readline():
            child = fork()
            if child == 0:
                break
            code = os.waitstatus_to_exitcode(wait(child, 0)[1])
            os.write(results, f"{code}\n".encode())
        else:
            return
        request = json.loads(line)
    os.close(results)
    _become(request["words"], request["cwd"], request["environment"], request["streams"])


def _import_all(on_gevent: bool) -> None:
    settings = [f"deploys.{path.parent.name}.settings" for path in ROOT.glob("deploys/*/settings.py")]
    assert len(settings) > 10
    outside = ["deploys.ports", "inventory.load", "provision.reporting.display", "provision.selection"]
    inside = ["provision.pipeline"] if on_gevent else ["provision.chat", "provision.sandbox"]
    for name in ("cli", *settings, *outside, *inside):
        importlib.import_module(name)


def _become(words: Sequence[str], cwd: str, environment: Mapping[str, str], streams: Sequence[str]) -> None:
    """Run the program with these in place of this process's own."""
    for number, (path, flags) in enumerate(
        zip(streams, (os.O_RDONLY, os.O_WRONLY | os.O_CREAT, os.O_WRONLY | os.O_CREAT), strict=True)
    ):
        opened = os.open(path, flags, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [str(ROOT / "cli.py"), *words]
    import cli

    cli.main()
