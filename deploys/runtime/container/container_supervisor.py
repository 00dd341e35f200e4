"""Run one container as a systemd service. A separate program on the host; uses only the standard library.

    container_supervisor.py FOLDER NAME SECONDS [option of `docker run` …] -- [argument of the container …]

systemd identifies a service by its control group, and a container is not in that of `docker run`. This
program is in the service's group: it passes the container's readiness, status and watchdog on to systemd, its
lines to the journal of the service, and a request to stop to the container; it ends with the exit code of the
container. It holds no connection to the engine that a restart of it could break: with live-restore the
container keeps running.

The image is named in `image.env`, next to this file. FOLDER belongs to the service and is /run/attend in the
container; credentials of the service are at /run/credentials there. A container has SECONDS to stop.
Source: systemd's sd_notify(3); the container's side is `container_entrypoint.py` in the image.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

PASSED_ON = ("READY=", "STATUS=", "WATCHDOG=", "STOPPING=", "EXTEND_TIMEOUT_USEC=")
"""Messages that a container may send to systemd: none with process IDs, which differ inside."""

GONE = 1
"""Exit code when the container has ended and its own exit code is unknown."""


def main(arguments: list[str]) -> int:
    """Run the container until it ends or a stop is requested; return the exit code."""
    folder, name, seconds, *rest = arguments
    middle = rest.index("--")
    options, inside = rest[:middle], rest[middle + 1 :]
    attendant = Attendant(name, Path(folder), seconds)
    image = image_of(Path(__file__).with_name("image.env").read_text(encoding="utf-8"))
    return attendant.run([*options, *attendant.options(), image, *inside])


def image_of(text: str) -> str:
    """Return the image that `image.env` names."""
    values = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    return values["IMAGE"]


def passed_on(datagram: bytes) -> bytes:
    """Return the lines of a container's message that are passed on to systemd."""
    lines = datagram.decode(errors="replace").splitlines()
    return "\n".join(line for line in lines if line.startswith(PASSED_ON)).encode()


class Attendant:
    """One container and the sockets that it sends to."""

    def __init__(self, name: str, folder: Path, seconds: str) -> None:
        self._name, self._folder, self._seconds = name, folder, seconds
        self._selector = selectors.DefaultSelector()
        self._wake, wakes = socket.socketpair()
        for end in (self._wake, wakes):
            end.setblocking(False)
        signal.set_wakeup_fd(wakes.fileno())
        self._wakes = wakes
        self._stop_asked = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask_to_stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._messages = self._socket("notify", socket.SOCK_DGRAM)
        self._lines = self._socket("log", socket.SOCK_STREAM)
        self._lines.listen()
        for source in (self._wake, self._messages, self._lines):
            self._selector.register(source, selectors.EVENT_READ)

    def options(self) -> list[str]:
        """Return the options of `docker run` from this service: user, umask, sockets, credentials."""
        mask = os.umask(0o077)
        os.umask(mask)
        found = ["--user", f"{os.getuid()}:{os.getgid()}", "--env", f"UMASK={mask:o}"]
        found += [*_mount(str(self._folder), "/run/attend"), "--env", "NOTIFY_SOCKET=/run/attend/notify"]
        if "WATCHDOG_USEC" in os.environ:
            found += ["--env", "WATCHDOG_USEC"]
        if credentials := os.environ.get("CREDENTIALS_DIRECTORY"):
            found += [*_mount(credentials, "/run/credentials")]
            found += ["--env", "CREDENTIALS_DIRECTORY=/run/credentials"]
        return found

    def run(self, command: list[str]) -> int:
        """Replace a container that a killed attendant has left, start the container, and wait for its end."""
        subprocess.run(["docker", "rm", "--force", self._name], capture_output=True, check=False)
        # Not --rm: an engine of version 20.10 ends such containers when it restarts, despite live-restore.
        started = subprocess.run(
            ["docker", "run", "--detach", "--name", self._name, "--log-driver", "none", *command],
            stdout=subprocess.DEVNULL,
            check=False,
        )
        if started.returncode:
            return started.returncode
        ended = self._attend()
        self._drain()
        return ended

    def _attend(self) -> int:
        waiting, stopping = self._wait(), None
        while True:
            for key, _ in self._selector.select(timeout=5):
                self._take(key.fileobj)
            if waiting.poll() is not None:
                code = self._exit_code(waiting)
                if code is not None:
                    return 0 if self._stop_asked else code
                time.sleep(0.5)  # the engine does not run: with live-restore the container keeps running
                waiting = self._wait()
            if self._stop_asked and (stopping is None or stopping.poll()):
                if stopping is not None:
                    time.sleep(0.5)
                stopping = subprocess.Popen(
                    ["docker", "stop", "--time", self._seconds, self._name],
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )

    def _wait(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["docker", "wait", self._name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def _exit_code(self, waiting: subprocess.Popen[str]) -> int | None:
        """Return the container's exit code; `None` when it may still run: the engine did not answer."""
        said, complaint = waiting.communicate()
        if waiting.returncode == 0 and said.strip().isdigit():
            return int(said)
        return GONE if "no such container" in complaint.lower() else None

    def _take(self, source: object) -> None:
        with contextlib.suppress(BlockingIOError):
            if source is self._wake:
                self._wake.recv(64)
            elif source is self._messages:
                tell_systemd(passed_on(self._messages.recv(4096)))
            elif source is self._lines:
                connection, _ = self._lines.accept()
                connection.setblocking(False)
                self._selector.register(connection, selectors.EVENT_READ)
            elif isinstance(source, socket.socket):
                if piece := source.recv(65536):
                    _write(piece)
                else:
                    self._selector.unregister(source)
                    source.close()

    def _drain(self) -> None:
        """Read the last lines, which may still be in a socket."""
        while ready := self._selector.select(timeout=0.2):
            for key, _ in ready:
                self._take(key.fileobj)

    def _ask_to_stop(self, *_: object) -> None:
        self._stop_asked = True

    def _socket(self, name: str, kind: socket.SocketKind) -> socket.socket:
        path = self._folder / name
        path.unlink(missing_ok=True)
        made = socket.socket(socket.AF_UNIX, kind)
        made.bind(str(path))
        made.setblocking(False)
        return made


def tell_systemd(message: bytes) -> None:
    """Send a message of sd_notify(3) to the service manager, if there is one."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if message and address:
        if address.startswith("@"):
            address = "\0" + address[1:]
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(message, address)


def _write(piece: bytes) -> None:
    while piece:
        piece = piece[os.write(1, piece) :]


def _mount(source: str, target: str) -> list[str]:
    return ["--mount", f"type=bind,src={source},dst={target},readonly"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
