"""Download of distributions with pip, which uses the user's mirror, proxy and login settings."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from inventory.errors import ArtifactError, ToolError
from provision.artifacts.lockfile import Locked
from provision.local.report_progress import ReportProgress, silent

_FETCHING = re.compile(r"^(?:Collecting|Processing) (?:\S*/)?([A-Za-z0-9._-]+)")
_MISMATCH = "DO NOT MATCH THE HASHES"
_LOGIN = re.compile(r"(?<=//)[^/@\s]+@")
_NOT_OURS = ("PIP_CONSTRAINT", "PIP_REQUIREMENT", "PIP_TARGET", "PIP_PREFIX", "PIP_USER", "PIP_NO_DEPS")


def download(
    entries: Collection[Locked],
    folder: Path,
    options: Sequence[str],
    *,
    what: str,
    environment: Mapping[str, str] | None = None,
    progress: ReportProgress = silent,
) -> None:
    """Download exactly the files of `entries` into `folder`, each with a digest of its entry.

    `options` select among the files (platform, wheels only); `what` is their name in messages. Raises
    `ArtifactError` when a file does not exist, cannot be downloaded or has another digest.
    """
    with tempfile.TemporaryDirectory(prefix="clawd-lock-") as temporary:
        requirements = Path(temporary) / "requirements.txt"
        requirements.write_text("".join(f"{entry}\n" for entry in entries), encoding="utf-8")
        command = [
            sys.executable, "-m", "pip", "download", "--no-input", "--disable-pip-version-check",
            "--progress-bar", "off", "--no-deps", "--require-hashes", *options,
            "--dest", str(folder), "--requirement", str(requirements),
        ]  # fmt: skip
        _run(command, what, len(entries), environment or {}, progress)


def _run(
    command: Sequence[str], what: str, count: int, extra: Mapping[str, str], progress: ReportProgress
) -> None:
    environment = {key: value for key, value in os.environ.items() if key not in _NOT_OURS} | dict(extra)
    tail: deque[str] = deque(maxlen=40)
    seen = 0
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                tail.append(line.rstrip())
                if match := _FETCHING.match(line):
                    seen += 1
                    progress(f"{what}: downloading {match[1]}", min(seen - 1, count) / count)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise failure(what, list(tail))


def failure(what: str, output: Sequence[str]) -> ArtifactError | ToolError:
    """Return the error for the last lines of pip's output."""
    text = _LOGIN.sub("***@", "\n".join(output))
    reasons = [line for line in text.splitlines() if line.startswith(("ERROR", "WARNING: Retrying"))]
    summary = "\n".join(reasons[-4:] or text.splitlines()[-4:])
    if "No module named pip" in text:
        return ToolError(
            f"{what}: the Python of this program has no pip",
            advice=f"run `{sys.executable} -m ensurepip`",
        )
    if _MISMATCH in text:
        return ArtifactError(
            f"{what}: a downloaded file is not the locked one:\n{text}",
            advice="the mirror or a proxy serves a changed file: use another one (PIP_INDEX_URL)",
        )
    if "No matching distribution" in text and "Retrying" not in text:
        return ArtifactError(
            f"{what}: a locked file does not exist for this kind of host:\n{summary}",
            advice="check that the mirror (PIP_INDEX_URL) is complete",
        )
    return ArtifactError(
        f"{what}: the download failed:\n{summary}",
        advice="check the network; PIP_INDEX_URL and HTTPS_PROXY set a mirror or a proxy",
    )
