"""Package repositories, as apt reads them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from deploys.ops.debian.sources import _ADD, KEYRINGS, stanza
from deploys.ops.shell import framed
from tests.deploys.golden import assert_golden

GOLDEN = Path(__file__).parent / "golden"


def test_repository_with_suites_equals_golden_file() -> None:
    text = stanza(
        "https://mirror.example.com/docker/debian",
        "trixie",
        ("stable",),
        ("amd64",),
        f"{KEYRINGS}/clawd-docker.asc",
    )
    assert_golden(GOLDEN / "clawd-docker.sources", text)


def test_flat_repository_equals_golden_file() -> None:
    uri = "https://mirror.example.com/cuda/repos/debian12/x86_64"
    text = stanza(uri, "/", (), (), f"{KEYRINGS}/clawd-nvidia-driver.gpg")
    assert_golden(GOLDEN / "clawd-nvidia-driver.sources", text)


@pytest.mark.parametrize("damaged", ["key", "source", "neither"])
def test_damaged_repository_files_do_not_replace_the_old_ones(tmp_path: Path, damaged: str) -> None:
    path, keyring = tmp_path / "docker.sources", tmp_path / "docker.asc"
    path.write_text("old source")
    keyring.write_text("old key")
    (tmp_path / "apt-get").write_text("#!/bin/sh\n")
    (tmp_path / "apt-get").chmod(0o755)
    frames = {"key": framed(b"new key"), "source": framed(b"new source"), "neither": ""}
    frames[damaged] = frames[damaged].replace("bmV3", "bmV4")
    done = subprocess.run(
        ["sh", "-c", _ADD],
        input=frames["key"] + frames["source"],
        env={
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "path": str(path),
            "keyring": str(keyring),
            "options": "",
        },
        capture_output=True,
        text=True,
    )
    age = "new" if damaged == "neither" else "old"
    assert (done.returncode == 0) is (damaged == "neither")
    assert (keyring.read_text(), path.read_text()) == (f"{age} key", f"{age} source")
