"""A process that computes with llama.cpp, which may abort on a damaged model.

Protocol: `clawd_runtime.engine.model_tools.output`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inventory.errors import ArtifactError
from provision.local.report_progress import ReportProgress, silent

_MODULE = "clawd_runtime.engine.model_tools"
_INHERITED = ("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "TMPDIR")
_MEMORY = "the memory may be too small: close other programs, or use a smaller model"


@dataclass(frozen=True, slots=True)
class ToolWorker:
    """Runs tools of the runtime whose packages are in the folders `packages`."""

    packages: tuple[Path, ...]

    def run(
        self, tool: str, arguments: Mapping[str, Any], *, what: str, progress: ReportProgress = silent
    ) -> dict[str, Any]:
        """Return the result of a tool; `what` is its task in messages (`quantise m.gguf`).

        The process ends with this call, however that ends. Raises `ArtifactError` when the tool fails.
        """
        text = json.dumps({key: _plain(value) for key, value in arguments.items()})
        tail: deque[str] = deque(maxlen=8)
        result: dict[str, Any] | None = None
        process = subprocess.Popen(
            [sys.executable, "-P", "-B", "-m", _MODULE, "--end-with-input", tool, text],
            env=self._environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            # Ctrl-C reaches this process only, which ends the other.
            start_new_session=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            for line in process.stdout:
                message = _message(line)
                if message is None:
                    tail.append(line.rstrip())
                elif message["clawd"] == "progress":
                    progress(str(message["what"]), float(message["fraction"]))
                elif message["clawd"] == "error":
                    raise ArtifactError(f"cannot {what}: {message['message']}", advice=message["advice"])
                else:
                    result = message
            process.wait()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            process.stdin.close()
            process.stdout.close()
        if process.returncode or result is None:
            raise _crashed(what, process.returncode, [line for line in tail if line])
        return result

    def _environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        return kept | {"PYTHONPATH": os.pathsep.join(map(str, self.packages))}


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _message(line: str) -> dict[str, Any] | None:
    """Return the object of a line of the protocol; `None` for other output."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and "clawd" in found else None


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _crashed(what: str, code: int, tail: list[str]) -> ArtifactError:
    """Return the error for a process that ended without a result."""
    if code == -signal.SIGKILL:
        return ArtifactError(f"cannot {what}: the process was killed", advice=_MEMORY)
    how = f"llama.cpp ended with {_signal(-code)}" if code < 0 else f"the process ended with {code}"
    said = "".join(f"\n    {line}" for line in tail)
    return ArtifactError(f"cannot {what}: {how}{said}", advice="the model may be damaged: download it again")
