"""`make down` in a copy of this checkout: what make made is gone, and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MADE = (
    ".build/state/clawd-provision/log/1.log",
    ".hypothesis/unicode_data/x",
    ".mypy_cache/x",
    ".pytest_cache/x",
    ".ruff_cache/x",
    ".sandbox/id_ed25519",
    ".sandbox/inventory.yml",
    ".sandbox/models/x.gguf",
    ".sandbox/secrets/telegram-token",
    ".venv/.installed",
    "inventory/.clawd/sandbox/ca/ca.pem",
    "provision/__pycache__/x.pyc",
    "runtime/.pytest_cache/x",
    "runtime/clawd_runtime/__pycache__/x.pyc",
)
CACHED = ("engine/1/wheel", "releases/1/archive", "sandbox/bookworm.tar.zst", "wheels/1/wheel", "partial/x")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="what hosts leave is removed by root")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What `make down` needs of a checkout, with what make leaves in it."""
    there = tmp_path / "checkout"
    leave_out = shutil.ignore_patterns("__pycache__", ".clawd")
    for folder in ("inventory", "provision"):
        shutil.copytree(ROOT / folder, there / folder, ignore=leave_out)
    shutil.copy(ROOT / "Makefile", there)
    for name in MADE:
        (there / name).parent.mkdir(parents=True, exist_ok=True)
        (there / name).touch()
    for name in CACHED:
        (tmp_path / "cache" / name).parent.mkdir(parents=True)
        (tmp_path / "cache" / name).touch()
    return there


def down(checkout: Path, *words: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    environment |= {"CLAWD_CACHE": str(checkout.parent / "cache")}
    del environment["PYTEST_CURRENT_TEST"]
    # What else this machine has of sandboxes is noted in /run, and is not for a test to remove.
    alone = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /run && exec make down "$@"', "sh"]
    done = subprocess.run(
        [*alone, *words], cwd=checkout, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_make_down_deletes_what_make_created_and_no_other_file(checkout: Path, tmp_path: Path) -> None:
    before = files(checkout)
    (checkout / "inventory/.clawd/team/ca").mkdir(parents=True)
    (checkout / "inventory/prod.yml").touch()
    (tmp_path / "cache/mine").touch()
    output = down(checkout)
    gone = before - files(checkout)
    assert set(MADE) <= gone
    assert files(checkout) - before == {
        "inventory/.clawd/team",
        "inventory/.clawd/team/ca",
        "inventory/prod.yml",
    }
    assert {path for path in files(checkout) if path.startswith(".")} == set()
    assert not [path for path in files(checkout) if "__pycache__" in path]
    assert files(tmp_path / "cache") == {"mine"}
    assert "kept" not in output


def test_make_down_deletes_empty_folders_and_keeps_the_cache_on_request(
    checkout: Path, tmp_path: Path
) -> None:
    (checkout / ".build/packages").write_text("zstd\nmmdebstrap\nzstd\n")
    output = down(checkout, "CACHE=keep")
    assert not (checkout / "inventory/.clawd").exists()
    assert set(CACHED) <= files(tmp_path / "cache")
    assert f"kept: {tmp_path / 'cache'}" in output
    assert "sudo apt-get purge --auto-remove mmdebstrap zstd" in output
    assert down(checkout) == ""
    assert not (tmp_path / "cache").exists()
