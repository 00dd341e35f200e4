"""Which sandbox owns the network, and when hosts of another one on it are removed."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from inventory.errors import SandboxError
from provision.sandbox import claims, cleanup
from provision.sandbox.commands import silent
from provision.sandbox.layout import Layout

CLAIM = """
import sys
from ipaddress import IPv4Network
from pathlib import Path
from provision.sandbox import Layout, claims
claims.FOLDER = Path(sys.argv[1])
box = Layout(Path(sys.argv[2]), bridge="clawdt", subnet=IPv4Network("10.213.78.0/24"), table="clawd_t")
claims.claim(box, lasting=sys.argv[3] == "lasting")
print("claimed", flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(claims, "FOLDER", tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def removed(monkeypatch: pytest.MonkeyPatch) -> list[Layout]:
    """What was removed instead of real hosts."""
    gone: list[Layout] = []

    def remove(layout: Layout, *, purge: bool, progress: object) -> tuple[str, ...]:
        gone.append(layout)
        with claims.held() as shared:
            del shared["bridges"][layout.bridge]
        return ()

    monkeypatch.setattr(cleanup, "remove", remove)
    return gone


@pytest.fixture
def other(layout: Layout, tmp_path: Path) -> Layout:
    """Another sandbox on the same bridge, with hosts."""
    other = dataclasses.replace(layout, folder=tmp_path / "clone" / ".sandbox", table="clawd_t")
    other.hosts.mkdir(parents=True)
    return other


@pytest.fixture
def runner(run: Path, other: Layout) -> Iterator[subprocess.Popen[str]]:
    """Another run, which has the bridge."""
    command = [sys.executable, "-c", CLAIM, str(run), str(other.folder), "for now"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "claimed\n"
        yield running
        running.kill()


@pytest.fixture
def made_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Claims of this process look as if it had ended."""
    monkeypatch.setattr(claims, "alive", lambda _: False)


def test_host_keys_are_those_of_claimed_sandboxes(layout: Layout, other: Layout) -> None:
    other.known_hosts.write_text("bot1,10.213.78.11 ssh-ed25519 AAAAother\n")
    assert claims.host_keys_on_this_machine() == frozenset()
    claims.claim(other, lasting=True)
    assert claims.host_keys_on_this_machine() == {"ssh-ed25519 AAAAother"}
    other.known_hosts.unlink()
    assert claims.host_keys_on_this_machine() == frozenset()


def test_sandbox_under_construction_is_not_removed(
    layout: Layout, other: Layout, removed: list[Layout]
) -> None:
    claims.claim(other, lasting=True)
    other.hosts.rmdir()
    with pytest.raises(SandboxError, match="is running and uses clawdt"):
        cleanup.make_way(layout, silent)
    assert removed == []


def test_sandbox_of_a_running_process_is_not_removed(
    runner: subprocess.Popen[str], layout: Layout, other: Layout, removed: list[Layout]
) -> None:
    with pytest.raises(
        SandboxError, match=r"clone/\.sandbox is running and uses clawdt and 10\.213\.78\.0/24"
    ):
        cleanup.make_way(layout, silent)
    assert cleanup.clear(silent) == ()
    assert removed == []
    layout.hosts.mkdir(parents=True)
    assert not claims.is_ours(layout)
    assert claims.is_ours(other)


def test_sandbox_of_a_killed_run_is_removed(
    runner: subprocess.Popen[str], layout: Layout, other: Layout, removed: list[Layout]
) -> None:
    runner.kill()
    runner.wait()
    cleanup.make_way(dataclasses.replace(layout, bridge="other0"), silent)
    assert removed == []
    cleanup.make_way(layout, silent)
    (gone,) = removed
    assert (gone.folder, gone.subnet, gone.table) == (other.folder, other.subnet, "clawd_t")
    assert claims.claims() == ()


def test_lasting_sandbox_survives_its_process_until_cleared(
    layout: Layout, other: Layout, removed: list[Layout], made_by_nobody: None
) -> None:
    claims.claim(other, lasting=True)
    claims.claim(other, lasting=False)
    with pytest.raises(SandboxError, match=f"`make down` in {claims.PROJECT}"):
        cleanup.make_way(layout, silent)
    assert cleanup.clear(silent) == (other.folder,)
    assert [gone.folder for gone in removed] == [other.folder]


def test_lasting_sandbox_of_another_checkout_is_not_cleared(
    other: Layout, removed: list[Layout], made_by_nobody: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims.claim(other, lasting=True)
    monkeypatch.setattr(claims, "PROJECT", Path("/elsewhere"))
    assert cleanup.clear(silent) == ()
    assert removed == []


def test_sandbox_without_its_folder_is_removed_and_folder_not_recreated(
    layout: Layout, other: Layout, removed: list[Layout], made_by_nobody: None
) -> None:
    claims.claim(other, lasting=True)
    other.hosts.rmdir()
    other.folder.rmdir()
    cleanup.make_way(layout, silent)
    assert [gone.folder for gone in removed] == [other.folder]
    assert not other.folder.exists()


def test_sandbox_without_a_claim_is_ours_only_with_hosts(layout: Layout) -> None:
    assert not claims.is_ours(layout)
    layout.hosts.mkdir(parents=True)
    assert claims.is_ours(layout)


def test_empty_claims_file_is_deleted(run: Path) -> None:
    with claims.held() as shared:
        shared["before"] = "1"
    assert json.loads((run / "sandboxes.json").read_text()) == {"before": "1"}
    with claims.held() as shared:
        shared.clear()
    assert not run.exists()
