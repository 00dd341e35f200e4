"""The process in which tools compute: what it returns, and how its end is reported."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from inventory.errors import ArtifactError
from provision.model_tools.worker import ToolWorker
from tests.provision.model_tools.conftest import ROOT


def of_program(folder: Path, program: str) -> ToolWorker:
    """Return a worker that runs `program` in place of the runtime's tools."""
    package = folder / "clawd_runtime" / "engine" / "model_tools"
    package.mkdir(parents=True)
    for place in (package, *list(package.parents)[:2]):
        (place / "__init__.py").touch()
    (package / "__main__.py").write_text("import json, os, sys, time\n" + program)
    return ToolWorker((folder,))


def test_result_and_progress_are_returned_and_other_output_is_not(tmp_path: Path) -> None:
    worker = of_program(
        tmp_path,
        "print('a library says', 1)\n"
        'print(json.dumps({"clawd": "progress", "what": "counting", "fraction": 0.5}))\n'
        'print(json.dumps({"clawd": "result", "words": sys.argv[1:]}))\n',
    )
    seen: list[tuple[str, float | None]] = []
    result = worker.run(
        "count",
        {"path": Path("/m"), "number": 3},
        what="count",
        progress=lambda what, part=None, /: seen.append((what, part)),
    )
    assert seen == [("counting", 0.5)]
    assert result["words"][:2] == ["--end-with-input", "count"]
    assert json.loads(result["words"][2]) == {"path": "/m", "number": 3}


def test_error_of_a_tool_is_reported_with_its_hint(tmp_path: Path) -> None:
    line = {"clawd": "error", "message": "no such kind", "advice": "use another"}
    worker = of_program(tmp_path, f"print({json.dumps(json.dumps(line))})\nsys.exit(1)\n")
    with pytest.raises(ArtifactError, match="cannot quantise m: no such kind") as caught:
        worker.run("quantise", {}, what="quantise m")
    assert caught.value.advice == "use another"


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("print('GGML_ASSERT failed', flush=True); os.abort()", "ended with SIGABRT\n    GGML_ASSERT failed"),
        ("os.kill(os.getpid(), 9)", "the process was killed"),
        ("sys.exit(3)", "the process ended with 3"),
        ("", "the process ended with 0"),
    ],
)
def test_end_without_a_result_is_an_error(tmp_path: Path, program: str, said: str) -> None:
    with pytest.raises(ArtifactError, match=said):
        of_program(tmp_path, program).run("quantise", {}, what="quantise m")


def test_process_ends_with_an_exception_of_its_caller(tmp_path: Path) -> None:
    worker = of_program(
        tmp_path,
        'print(json.dumps({"clawd": "progress", "what": str(os.getpid()), "fraction": 0}), flush=True)\n'
        "time.sleep(600)\n",
    )
    running: list[int] = []

    def interrupt(what: str, _: float | None = None, /) -> None:
        running.append(int(what))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        worker.run("wait", {}, what="wait", progress=interrupt)
    with pytest.raises(ProcessLookupError):
        os.kill(running[0], 0)


@pytest.mark.model
def test_tool_ends_when_the_program_that_started_it_is_killed() -> None:
    """Its standard input ends then."""
    wait = """
import threading
from clawd_runtime.engine.model_tools import __main__ as tools

class Wait:
    model_validate_json = classmethod(lambda cls, text: cls())

    def run(self, progress):
        print("runs", flush=True)
        threading.Event().wait()

tools.TOOLS = {"wait": Wait}
tools.main(["--end-with-input", "wait", "{}"])
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "runtime")}
    process = subprocess.Popen(
        [sys.executable, "-c", wait], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == b"runs\n"
    process.stdin.close()
    assert process.wait(60) == 1
    process.stdout.close()


@pytest.mark.model
def test_interrupted_command_leaves_neither_file_nor_process(tmp_path: Path, real_model: Path) -> None:
    """Through the command line, which Ctrl-C reaches as SIGINT."""
    target = tmp_path / "small.gguf"
    code = (
        "import sys; from pathlib import Path; import provision.artifacts.toolbox as toolbox\n"
        f"toolbox.site_packages = lambda cache, progress=None: Path({str(ROOT / 'runtime')!r})\n"
        "import cli; cli.main()\n"
    )
    words = ["model", "quantize", str(real_model), "--to", "iq4_xs", "--requantize", "-o", str(target)]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.iterdir()):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "interrupted" in said
    assert list(tmp_path.iterdir()) == []
