"""Whose a host is: another laptop or another project takes it over only with --adopt."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from deploys.tls.authority import authority
from deploys.tls.certificate import public_key_sha256
from inventory.errors import HostError
from inventory.load import LoadedInventory, load
from inventory.state import project_id, remember_project
from provision.connection.session import CommandResult
from provision.preflight import ownership
from provision.preflight.ownership import Belonging

TEXT = """
project: {project}
hosts: {{bot1: {{address: 10.0.0.1}}, bot2: {{address: 10.0.0.2}}}}
models: {{default: {{engine: openai-compatible, endpoint: "https://models.example.com/v1"}}}}
"""


def laptop(folder: Path, project: str = "acme") -> LoadedInventory:
    folder.mkdir(exist_ok=True)
    (folder / "prod.yml").write_text(TEXT.format(project=project))
    return load(folder / "prod.yml")


class Hosts:
    """A stand-in for the session whose commands run here, each host in a folder of its own."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.folder, self.names = folder, names

    def run(self, name: str, script: str, *, stdin: str | None = None, timeout: float = 60) -> CommandResult:
        for path in ("/var/lib/clawd", "/etc/clawd"):
            script = script.replace(path, f"{self.folder / name}{path}")
        done = subprocess.run(["sh", "-c", script], input=stdin, capture_output=True, text=True, check=False)
        return CommandResult(done.returncode == 0, done.stdout, done.stderr)

    def everywhere(self, function: Callable[[str], Any]) -> dict[str, Any]:
        return {name: function(name) for name in self.names}

    def put(self, name: str, path: str, content: bytes) -> None:
        file = self.folder / name / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


@pytest.fixture
def hosts(tmp_path: Path) -> Any:
    return Hosts(tmp_path / "hosts", "bot1", "bot2")


def signed_by(loaded: LoadedInventory) -> bytes:
    return authority(loaded.state_folder, "p", timedelta(days=1), datetime.now(UTC)).certificate_pem


def test_new_hosts_are_claimed_by_the_first_run(tmp_path: Path, hosts: Any) -> None:
    mine = laptop(tmp_path / "mine")
    ownership.check(mine, hosts)
    assert project_id(mine.state_folder) is None, "a check changes nothing"
    ownership.claim(mine, hosts)
    assert ownership.read(hosts, "bot1") == Belonging(project_id(mine.state_folder) or "", "acme")
    ownership.check(mine, hosts)
    ownership.claim(mine, hosts)


def test_second_laptop_without_state_folder_is_refused_with_what_to_copy(tmp_path: Path, hosts: Any) -> None:
    mine, second = laptop(tmp_path / "mine"), laptop(tmp_path / "second")
    ownership.claim(mine, hosts)
    hosts.put("bot1", "/etc/clawd/tls/ca.pem", signed_by(mine))
    line = json.dumps({"who": "ann@desk", "status": "done"})
    hosts.put("bot1", "/var/lib/clawd/state/journal.jsonl", f"{line}\n".encode())
    with pytest.raises(HostError) as refused:
        ownership.check(second, hosts)
    shown = str(refused.value)
    assert f"bot1: it belongs to the project acme, which {second.state_folder} does not know" in shown
    assert "the last run there was by ann@desk" in shown
    assert "bot2: it belongs to" in shown
    assert (
        f"copy the folder .clawd/acme (project.json and ca/) from ann@desk to {second.state_folder}" in shown
    )
    assert "--adopt" in shown
    second.state_folder.parent.mkdir()
    mine.state_folder.rename(second.state_folder)
    ownership.check(second, hosts)


def test_host_of_another_project_is_refused(tmp_path: Path, hosts: Any) -> None:
    theirs, mine = laptop(tmp_path / "theirs", "other"), laptop(tmp_path / "mine")
    ownership.claim(theirs, hosts)
    remember_project(mine.state_folder)
    with pytest.raises(HostError, match="bot1: it belongs to another project other") as refused:
        ownership.check(mine, hosts)
    assert "use the inventory of other for it" in str(refused.value)


def test_host_that_trusts_an_unknown_authority_is_refused(tmp_path: Path, hosts: Any) -> None:
    """Also one that an earlier version set up, which noted no project."""
    mine, second = laptop(tmp_path / "mine"), laptop(tmp_path / "second")
    for path in ("/etc/clawd/authority.pem", "/etc/clawd/database-tls/ca.pem"):
        hosts.put("bot2", path, signed_by(mine))
        with pytest.raises(HostError, match="bot2: it trusts a certificate authority that"):
            ownership.check(second, hosts)
        ownership.check(mine, hosts)
        (hosts.folder / "bot2" / path.lstrip("/")).unlink()


def test_host_with_the_former_authority_certificate_is_accepted(tmp_path: Path, hosts: Any) -> None:
    """An authority is renewed, with the same key, when a host or name is added; a run may reach one alone."""
    mine = laptop(tmp_path / "mine")

    def signing_for(*names: str) -> bytes:
        now = datetime.now(UTC)
        return authority(mine.state_folder, "p", timedelta(days=1), now, names).certificate_pem

    before = signing_for("bot1.example.com")
    hosts.put("bot1", "/etc/clawd/tls/ca.pem", before)
    assert signing_for("bot1.example.com", "bot2.example.com") != before
    ownership.check(mine, hosts)


def test_unreadable_authority_on_a_host_is_ignored(tmp_path: Path, hosts: Any) -> None:
    mine = laptop(tmp_path / "mine")
    hosts.put("bot1", "/etc/clawd/tls/ca.pem", b"damaged")
    assert ownership.read(hosts, "bot1").authorities == frozenset()
    ownership.check(mine, hosts)


def test_renamed_authority_is_accepted(tmp_path: Path, hosts: Any) -> None:
    mine = laptop(tmp_path / "mine")
    hosts.put("bot1", "/etc/clawd/authority.pem", signed_by(mine))
    (mine.state_folder / "ca").rename(mine.state_folder / "ca.old")
    ownership.check(mine, hosts)


def test_adopt_takes_over_the_id_of_the_hosts(tmp_path: Path, hosts: Any) -> None:
    mine, second = laptop(tmp_path / "mine"), laptop(tmp_path / "second")
    ownership.claim(mine, hosts)
    ownership.check(second, hosts, adopt=True)
    ownership.claim(second, hosts, adopt=True)
    assert project_id(second.state_folder) == project_id(mine.state_folder)
    ownership.check(mine, hosts)


def test_adopt_gives_hosts_the_id_of_an_existing_project(tmp_path: Path, hosts: Any) -> None:
    theirs, mine = laptop(tmp_path / "theirs", "other"), laptop(tmp_path / "mine")
    ownership.claim(theirs, hosts)
    identity = remember_project(mine.state_folder)
    ownership.claim(mine, hosts, adopt=True)
    assert ownership.read(hosts, "bot1") == Belonging(identity, "acme")
    ownership.check(mine, hosts)


def test_reinstalled_and_renamed_hosts_are_claimed_again(tmp_path: Path) -> None:
    """Which project a host belongs to has nothing to do with what the inventory calls it."""
    mine = laptop(tmp_path / "mine")
    ownership.claim(mine, Hosts(tmp_path / "hosts", "bot1"))  # type: ignore[arg-type]
    renamed, fresh = Hosts(tmp_path / "hosts", "bot1"), Hosts(tmp_path / "new", "bot1")
    for found in (renamed, fresh):
        ownership.check(mine, found)  # type: ignore[arg-type]
        ownership.claim(mine, found)  # type: ignore[arg-type]
        assert ownership.read(found, "bot1").id == project_id(mine.state_folder)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "output", ["", "project=", "project=[]", "project={", "journal=1", "authority=", "x"]
)
def test_damaged_project_note_on_a_host_is_ignored(output: str) -> None:
    assert Belonging.parse(output).id == Belonging.parse(output).last_by == ""


def test_authorities_are_compared_by_public_key(tmp_path: Path, hosts: Any) -> None:
    mine = laptop(tmp_path / "mine")
    hosts.put("bot1", "/etc/clawd/authority.pem", signed_by(mine))
    own = authority(mine.state_folder, "p", timedelta(days=1), datetime.now(UTC)).certificate
    assert ownership.read(hosts, "bot1").authorities == {public_key_sha256(own)}
