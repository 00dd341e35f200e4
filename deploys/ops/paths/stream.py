"""Send a file piece by piece over the open SSH connection of pyinfra."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import IO, Any

from pyinfra.api import StringCommand
from pyinfra.connectors.util import (
    CommandOutput,
    OutputLine,
    extract_control_arguments,
    make_unix_command_for_host,
)

from deploys.ops.run_state import ReportPushProgress, run_state
from deploys.ops.shell import script

PIECE = 256 * 1024


def part_of(dest: str, digest: str) -> str:
    """Return the partial file of one with this SHA-256, until it is complete."""
    return f"{dest}.{digest[:16]}.part"


class StreamCommand(StringCommand):  # type: ignore[misc]
    """Copy a file of the laptop to the partial file of `dest`, or continue an existing one.

    A separate kind of command because pyinfra's standard input is text held in memory.
    """

    def __init__(self, source: Path, dest: str, digest: str) -> None:
        super().__init__(f"stream {source.name} to {dest}")
        self.source, self.dest, self.part = source, dest, part_of(dest, digest)

    def execute(self, state: Any, host: Any, connector_arguments: Any) -> tuple[bool, CommandOutput]:
        """Compare the digest of an existing part, then send the rest. Errors are lines of the output."""
        client = getattr(host.connector, "client", None)
        if client is None:
            return False, _error("large files are pushed over SSH, which this connection is not")
        if not self.source.is_file():
            return False, _error(f"{self.source} is not a file on this machine")
        succeeded, output = host.run_shell_command(script(_PART, part=self.part), **connector_arguments)
        if not succeeded:
            return False, output
        size, digest = output.stdout.split()
        with self.source.open("rb") as file:
            start = int(size) if _starts_with(file, int(size), digest) else 0
            append = script(
                'umask 077; exec cat >> "$part"' if start else 'umask 077; exec cat > "$part"', part=self.part
            )
            file.seek(start)
            process = _started(state, host, client, append, dict(connector_arguments))
            return self._send(process, file, start, run_state(host).report_push_progress)

    def _send(
        self, process: Any, file: IO[bytes], start: int, progress: ReportPushProgress | None
    ) -> tuple[bool, CommandOutput]:
        total, sent = self.source.stat().st_size, start
        try:
            try:
                while piece := file.read(PIECE):
                    process.write(piece)
                    sent += len(piece)
                    if progress:
                        progress(self.dest, sent, total)
                process.close_stdin()
            except OSError:
                pass  # the host's side ended first: its exit status and error output have the reason
            complaint = process.stderr.read().decode(errors="replace")
            status = process.wait()
        finally:
            process.close()
        if status == 0 and sent == total:
            return True, CommandOutput([])
        reason = complaint.strip() or "the connection broke off"
        return False, _error(f"{self.dest}: {sent} of {total} bytes sent: {reason}; the next run continues")


class _ChannelProcess:
    """A command over a connection of pyinfra itself, with the interface of our connector's `Process`."""

    def __init__(self, channel: Any, command: str) -> None:
        channel.exec_command(command)
        self.write, self.close_stdin, self.close = channel.sendall, channel.shutdown_write, channel.close
        self.wait, self.stderr = channel.recv_exit_status, channel.makefile_stderr("rb")


def _started(state: Any, host: Any, client: Any, command: StringCommand, arguments: Any) -> Any:
    """Start `command` on the host with open standard input, by our connector or over pyinfra's connection."""
    if (start := getattr(host.connector, "start", None)) is not None:
        return start(command, **arguments)
    extract_control_arguments(arguments)
    line = make_unix_command_for_host(state, host, command, **arguments).get_raw_value()
    return _ChannelProcess(client.get_transport().open_session(), line)


_PART = r"""
if [ -f "$part" ]; then echo "$(stat -c %s "$part") $(sha256sum < "$part" | cut -c1-64)"; else echo "0 -"; fi
"""


def _starts_with(file: IO[bytes], size: int, digest: str) -> bool:
    """Return whether the first `size` bytes of `file` have this SHA-256."""
    hashed, left = sha256(), size
    while left and (piece := file.read(min(left, PIECE))):
        hashed.update(piece)
        left -= len(piece)
    return left == 0 and size > 0 and hashed.hexdigest() == digest


def _error(text: str) -> CommandOutput:
    return CommandOutput([OutputLine("stderr", text)])
