"""Package repositories, as apt reads them."""

from __future__ import annotations

from pathlib import Path

from deploys.ops.sources import KEYRINGS, stanza
from tests.deploys.golden import assert_golden

GOLDEN = Path(__file__).parent / "golden"


def test_a_repository_with_suites() -> None:
    text = stanza(
        "https://mirror.example.com/docker/debian",
        "trixie",
        ("stable",),
        ("amd64",),
        f"{KEYRINGS}/clawd-docker.asc",
    )
    assert_golden(GOLDEN / "clawd-docker.sources", text)


def test_a_flat_repository() -> None:
    uri = "https://mirror.example.com/cuda/repos/debian12/x86_64"
    text = stanza(uri, "/", (), (), f"{KEYRINGS}/clawd-nvidia-driver.gpg")
    assert_golden(GOLDEN / "clawd-nvidia-driver.sources", text)
