"""Conversion of a model's folder of safetensors to GGUF, with llama.cpp's converter.

The converter needs PyTorch and Transformers, which this program does not: the user names a Python that has
them. It runs code of the model's folder if there is any, so such folders are refused unless they are trusted.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from inventory.errors import ArtifactError, ClawdError, ToolError
from provision.local.report_progress import ReportProgress, silent
from provision.model_tools.output_file import check_space

PACKAGES = ("numpy", "sentencepiece", "torch", "transformers")
_WRITING = re.compile(r"Writing:\s+(\d+)%")
_INHERITED = ("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "TMPDIR")
_INSTALL = (
    f"run `python3 -m venv ~/converter && ~/converter/bin/pip install {' '.join(PACKAGES)}`, then pass "
    "--python ~/converter/bin/python"
)
_MISSING = """
import importlib.util, sys
print(*[name for name in sys.argv[1:] if not importlib.util.find_spec(name)])
"""


@dataclass(frozen=True, slots=True)
class Converter:
    """The converter's `program`, and the `python` that runs it."""

    program: Path
    python: Path

    def convert(self, folder: Path, target: Path, progress: ReportProgress = silent) -> None:
        """Write the model in `folder` to `target` as GGUF with 16-bit weights.

        `target` is incomplete after an error. Raises `ArtifactError` when the conversion fails, with the last
        lines of its output.
        """
        check_space(target.parent, sum(file.stat().st_size for file in folder.glob("*.safetensors")))
        tail: deque[str] = deque(maxlen=8)
        progress(f"converting {folder.name} to GGUF", 0.0)
        process = subprocess.Popen(
            [self.python, "-B", self.program, folder, "--outfile", target, "--outtype", "auto"],
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if match := _WRITING.search(line):
                    progress(f"converting {folder.name} to GGUF", int(match[1]) / 100)
                elif line.strip():
                    tail.append(line.rstrip())
            process.wait()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            process.stdout.close()
        if process.returncode or not target.is_file():
            said = "".join(f"\n    {line}" for line in tail)
            raise ArtifactError(
                f"cannot convert {folder}: llama.cpp's converter ended with {process.returncode}{said}",
                advice="the model may be of a kind that llama.cpp does not support",
            )


def check_folder(folder: Path, *, trust_code: bool) -> None:
    """Raise `ClawdError` unless `folder` is a whole model in safetensors, without untrusted code."""
    if not (folder / "config.json").is_file():
        raise ClawdError(
            f"{folder}: is no model: it has no config.json",
            advice="name the folder with all files of a model",
        )
    if not any(folder.glob("*.safetensors")):
        raise ClawdError(
            f"{folder}: has no *.safetensors", advice="download the model in safetensors, or as a GGUF file"
        )
    missing = sorted(name for name in _indexed(folder) if not (folder / name).is_file())
    if missing:
        raise ClawdError(f"{folder}: lacks {', '.join(missing)}", advice="download them, too")
    if (code := sorted(file.name for file in folder.glob("*.py"))) and not trust_code:
        raise ClawdError(
            f"{folder}: has code that the converter may run: {', '.join(code)}",
            advice="read it, then pass --trust-code; or use a GGUF file of the model",
        )


def check_python(python: Path | None) -> Path:
    """Return the Python for the converter. Raises `ToolError` when it is missing or lacks a package."""
    if python is None:
        raise ToolError(
            "cannot convert safetensors: a Python with PyTorch and Transformers is needed", advice=_INSTALL
        )
    try:
        done = subprocess.run(
            [python, "-c", _MISSING, *PACKAGES],
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ToolError(f"cannot run {python}: {error}", advice=_INSTALL) from error
    if missing := done.stdout.split():
        raise ToolError(f"{python}: has no {', '.join(missing)}", advice=_INSTALL)
    return python


def _indexed(folder: Path) -> set[str]:
    """Return the files that the index of a model in several parts names; none without an index."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return set()
    try:
        weights = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        return {Path(name).name for name in weights.values()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ClawdError(f"{index}: is damaged", advice="download it again") from error


def _environment() -> dict[str, str]:
    """Return the environment of the converter, which must not download anything."""
    kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return kept | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
