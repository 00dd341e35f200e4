"""Installed for itself (pipx, uv tool), the program has everything it needs with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program installed from its wheel into a folder of its own, away from this clone."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    wheel = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(wheel, check=True, timeout=100)
    (built,) = folder.glob("*.whl")
    site = folder / "site"
    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(built)], check=True, timeout=100)
    return site


def run(site: Path, program: str, tmp_path: Path) -> str:
    # `-P` and another folder keep the clone off the path; the site comes before the clone's own .pth entry.
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        env=environment,
        cwd=tmp_path,
        text=True,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_installed_program_runs_from_its_own_environment(installed: Path, tmp_path: Path) -> None:
    program = "import cli, sys; print(cli.__file__); sys.argv = ['x', '--help']; cli.main()"
    output = run(installed, program, tmp_path)
    assert output.startswith(str(installed))
    assert "sandbox" in output


def test_installed_program_contains_runtime_source_and_lock_file(installed: Path, tmp_path: Path) -> None:
    program = (
        "from provision.artifacts.runtime_source import RuntimeSource as S; s = S.of_this_program();"
        "print(len(s.files()), 'llama-cpp-python' in str(s.locked))"
    )
    count, locked = run(installed, program, tmp_path).split()
    package = (ROOT / "runtime" / "clawd_runtime").rglob("*")
    assert int(count) == sum(path.is_file() and "__pycache__" not in path.parts for path in package)
    assert locked == "True"


@pytest.mark.parametrize(
    "file",
    [
        "templates/base/sshd.conf",
        "templates/nginx/nginx.conf",
        "provision/artifacts/engine/engine-build.lock",
        "provision/artifacts/sandbox-model.lock",
        "deploys/nginx/verify.py",
        "deploys/disk/scripts/format.sh",
    ],
)
def test_installed_program_contains_data_files(installed: Path, file: str) -> None:
    assert (installed / file).is_file()
