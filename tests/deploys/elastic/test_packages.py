from __future__ import annotations

import base64
import contextlib
import subprocess
from pathlib import Path
from typing import Any

import pytest

from deploys.elastic import packages
from deploys.elastic.openpgp import fingerprints
from deploys.elastic.packages import ArchitectureFact, debian_version, installed, key_of, proxy_for
from deploys.elastic.settings import PackageSettings
from deploys.ops.debian.packages import WantedFact
from deploys.ops.facts import PackagesFact, PathFact, PathState, PushedFact
from inventory.errors import ArtifactError
from tests.deploys.harness import Machine, Run


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes, str]:
    """Armored and bare, with gpg's word for its fingerprint."""
    home = tmp_path_factory.mktemp("gnupg")
    home.chmod(0o700)

    def gpg(*words: str) -> bytes:
        command = ["gpg", "--batch", "--homedir", str(home), *words]
        return subprocess.run(command, check=True, capture_output=True, timeout=60).stdout

    gpg("--passphrase", "", "--quick-gen-key", "tests", "rsa2048", "sign", "never")
    listed = gpg("--with-colons", "--fingerprint").decode().splitlines()
    fingerprint = next(line.split(":")[9] for line in listed if line.startswith("fpr:"))
    keys = gpg("--armor", "--export"), gpg("--export"), fingerprint
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=True, timeout=20)
    return keys


def test_fingerprints_equal_those_of_gpg(key: tuple[bytes, bytes, str]) -> None:
    armored, bare, fingerprint = key
    assert fingerprints(armored) == fingerprints(bare) == (fingerprint,)
    assert fingerprints(armored.replace(b"\n", b"\r\n")) == (fingerprint,)


def test_every_key_of_a_file_is_found_as_gpg_finds_it(key: tuple[bytes, bytes, str], tmp_path: Path) -> None:
    """Else a second key, which apt accepts as well, would pass under the declared fingerprint."""
    armored, bare, expected = key
    other = other_key(bare)
    block = b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n%s\n-----END PGP PUBLIC KEY BLOCK-----\n"
    added = block % base64.encodebytes(other)
    for content in (bare + other, armored + added, armored + b"text\n" + added, b"text\n" + armored + added):
        (tmp_path / "keys").write_bytes(content)
        command = ["gpg", "--batch", "--homedir", str(tmp_path), "--with-colons", "--show-keys", "keys"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
        lines = (line.split(":") for line in done.stdout.splitlines())
        of_gpg = tuple(fields[9] for fields in lines if fields[0] == "fpr")
        assert (len(of_gpg), of_gpg[0]) == (2, expected)
        assert fingerprints(content) == of_gpg


def other_key(bare: bytes) -> bytes:
    """Return the first packet of a key, with another time of creation: a key without a name."""
    assert bare[0] == 0x99
    packet = bare[: 3 + int.from_bytes(bare[1:3], "big")]
    return packet[:4] + bytes([packet[4] ^ 1]) + packet[5:]


@pytest.mark.parametrize("version", [2, 3, 5, 9])
def test_key_of_an_unknown_version_next_to_the_declared_one_is_refused(
    key: tuple[bytes, bytes, str], version: int
) -> None:
    _, bare, _ = key
    other = other_key(bare)
    with pytest.raises(ValueError, match=r"^[^\n]*[Uu]nsupported[^\n]*$"):
        fingerprints(bare + other[:3] + bytes([version]) + other[4:])


@pytest.mark.parametrize("damaged", [b"<html>not found</html>", b"", b"\x99\x01"])
def test_malformed_key_has_no_fingerprint(damaged: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert fingerprints(damaged) == ()


def test_key_that_is_cut_off_is_refused_in_one_line(key: tuple[bytes, bytes, str]) -> None:
    _, bare, _ = key
    whole_packet = 3 + int.from_bytes(bare[1:3], "big")
    for end in range(1, whole_packet, 37):
        with pytest.raises(ValueError, match=r"^[^\n]+$"):
            fingerprints(bare[:end])


def test_key_with_another_fingerprint_is_refused(key: tuple[bytes, bytes, str], tmp_path: Path) -> None:
    armored, _, expected = key
    file = tmp_path / "key.asc"
    file.write_bytes(armored)
    assert key_of(PackageSettings(key=file, fingerprint=expected), tmp_path) == armored
    with pytest.raises(ArtifactError, match=f"holds the key {expected}, and not 46095ACC"):
        key_of(PackageSettings(key=file), tmp_path)
    file.write_bytes(armored + armored)
    with pytest.raises(ArtifactError, match="and not"):
        key_of(PackageSettings(key=file, fingerprint=expected), tmp_path)
    with pytest.raises(ArtifactError, match="cannot read the key of Elastic's packages"):
        key_of(PackageSettings(key=tmp_path / "nothing"), tmp_path)


def test_elastic_key_is_fetched_once_and_cached_only_with_the_right_fingerprint(
    key: tuple[bytes, bytes, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    armored, _, expected = key
    fetched: list[str] = []

    def fetch() -> bytes:
        fetched.append("once")
        return armored

    monkeypatch.setattr(packages, "_fetched", fetch)
    state = tmp_path / "state"
    with pytest.raises(ArtifactError):
        key_of(PackageSettings(), state)
    assert not state.exists()
    wanted = PackageSettings(fingerprint=expected)
    assert key_of(wanted, state) == key_of(wanted, state) == armored
    assert len(fetched) == 2
    assert state.stat().st_mode & 0o777 == 0o700


def test_logstash_package_version_has_an_epoch() -> None:
    assert debian_version("logstash", "9.4.9") == "1:9.4.9-1"
    assert debian_version("filebeat", "9.4.9") == "9.4.9"


def test_proxy_applies_only_to_the_elastic_repository() -> None:
    text = proxy_for("https://artifacts.elastic.co/packages/9.x/apt", "http://10.0.0.9:3128")
    assert 'Acquire::https::Proxy::artifacts.elastic.co "http://10.0.0.9:3128";' in text


def plan(settings: PackageSettings, present: frozenset[str] = frozenset()) -> Run:
    facts: dict[Any, Any] = {
        PackagesFact: present,
        WantedFact: frozenset({"filebeat"}) if present else frozenset(),
        PathFact: PathState(),
        PushedFact: PathState(),
        ArchitectureFact: "amd64",
    }
    return Machine(facts=facts).run(lambda: installed("filebeat", settings), execute=False)


def test_package_from_a_folder_is_pushed_without_adding_a_repository(tmp_path: Path) -> None:
    settings = PackageSettings(folder=tmp_path)
    with pytest.raises(ArtifactError, match=r"filebeat-9\.4\.9-amd64\.deb does not exist"):
        plan(settings)
    (tmp_path / "filebeat-9.4.9-amd64.deb").write_bytes(b"a package")
    paths = [change.path for change in plan(settings).changes]
    assert paths[:2] == ["/var/lib/clawd/packages", "/var/lib/clawd/packages/filebeat-9.4.9-amd64.deb"]
    assert "packages" in paths
    assert not any("sources" in path for path in paths)


def test_installed_package_is_not_pushed_again(tmp_path: Path) -> None:
    present = frozenset({"filebeat", "filebeat=9.4.9"})
    assert not plan(PackageSettings(folder=tmp_path), present).changes
