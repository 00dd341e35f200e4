"""Programs in forks of a process with their modules: as with `python -m`."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.preloading import start

ASKS = "exec", "--", 'echo "$GREETING from $PWD"'


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    process = start("pyinfra", arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    output, errors = process.communicate(timeout=60)
    return subprocess.CompletedProcess(arguments, process.returncode, output, errors)


def test_program_has_its_own_folder_environment_and_output(tmp_path: Path) -> None:
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        done = run("-y", "@local", *ASKS, cwd=folder, env={**os.environ, "GREETING": name})
        assert done.returncode == 0, done.stderr
        assert f"[@local] {name} from {folder}" in done.stdout + done.stderr


def test_exit_code_is_that_of_the_program() -> None:
    refused = run("--nonsense")
    assert refused.returncode == 2
    assert "No such option" in refused.stderr


def test_program_has_the_files_that_are_passed_to_it(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    (tmp_path / "deploy.py").write_text(f"import os\nos.write({writing}, b'written')\n")
    done = run("-y", "@local", "deploy.py", cwd=tmp_path, pass_fds=(writing,))
    os.close(writing)
    assert os.read(reading, 100) == b"written", done.stderr
    os.close(reading)


def test_interrupt_reaches_the_program(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import time\n\ndef test_it():\n    open('begun', 'w').close()\n    time.sleep(60)\n"
    )
    words = ["-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", ".", "test_it.py"]
    process = start("pytest", words, cwd=tmp_path, stdout=subprocess.PIPE)
    until((tmp_path / "begun").exists)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert "KeyboardInterrupt" in output
    assert process.returncode == 2


def test_command_line_works_as_installed(tmp_path: Path) -> None:
    process = start("clawd-provision", ["plan", "-i", "none"], cwd=tmp_path, stderr=subprocess.PIPE)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "none" in errors
    assert "hint: " in errors


def test_killing_the_process_ends_the_program(tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    (tmp_path / "deploy.py").write_text(
        f"import time\nfor _ in range(600):\n    open({str(alive)!r}, 'w').close()\n    time.sleep(0.1)\n"
    )
    process = start("pyinfra", ["-y", "@local", "deploy.py"], cwd=tmp_path, stdout=subprocess.DEVNULL)
    until(alive.exists)
    process.kill()
    process.wait(10)

    def is_over() -> bool:
        alive.unlink(missing_ok=True)
        time.sleep(0.5)
        return not alive.exists()

    until(is_over)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
