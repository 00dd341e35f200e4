"""The engine's configuration, its guard, and when what is done."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from deploys.component import Opening
from deploys.docker.authorities import FOLDER, MARK, NAME, OwnFact, authorities
from deploys.docker.config import KNOWN, daemon_config, environment, guard_rules
from deploys.docker.deploy import (
    CHECK,
    CONFIG,
    GuardFact,
    GuardState,
    RootsFact,
    RunningFact,
    SystemCodename,
    SystemCodenameFact,
    apply,
    remove,
)
from deploys.docker.settings import DockerSettings, needs_for, settings_for
from deploys.docker.verify import published
from deploys.nvidia import gpus
from deploys.ops.accounts import GroupFact, UserFact
from deploys.ops.debian.added import Added, AddedFact
from deploys.ops.debian.packages import BroughtFact, WantedFact
from deploys.ops.facts import PackagesFact, PathFact, PathState, StaysFact, UnitFact, UnitState
from deploys.ops.paths.files import rendered
from deploys.resources import HostResources
from inventory.errors import ArtifactError, HostError
from tests.deploys.golden import assert_golden
from tests.deploys.harness import Machine, Run
from tests.deploys.inventories import inventory

UNKNOWN = HostResources(None, None)

GOLDEN = Path(__file__).parent / "golden"
FULL = DockerSettings(
    registry_mirrors=("https://mirror.example.com",),
    proxy="http://proxy.example.com:3128",
    no_proxy=("registry.internal", "10.0.0.0/8"),
    gpu=True,
    openings=(
        Opening(port=5000, sources=("10.1.0.0/16", "10.1.2.0/24", "fd00::/8"), purpose="registry"),
        Opening(port=53, protocol="udp", purpose="names"),
    ),
)
BARE: dict[Any, Any] = {
    SystemCodenameFact: SystemCodename("debian", "trixie"),
    PathFact: PathState(),
    PackagesFact: frozenset(),
    WantedFact: frozenset(),
    UnitFact: UnitState(),
    GuardFact: GuardState(),
    gpus.GpuMachineFact: gpus.GpuMachine(),
    OwnFact: (),
}


def plan(settings: DockerSettings, **facts: Any) -> Run:
    known = {**BARE, **{kind: facts[kind.__name__] for kind in BARE if kind.__name__ in facts}}
    return Machine({"docker": settings}, facts=known).run(apply, execute=False)


def test_configuration_equals_golden_files() -> None:
    assert_golden(GOLDEN / "daemon.json", daemon_config(FULL, gpu=True))
    assert_golden(GOLDEN / "clawd.env", environment(FULL))
    assert_golden(GOLDEN / "guard.nft", rendered("docker/guard.nft", {"rules": guard_rules(FULL.openings)}))
    assert_golden(GOLDEN / "service.conf", rendered("docker/service.conf", {"guarded": True}))


def test_configuration_without_gpu_has_no_nvidia_runtime() -> None:
    config = json.loads(daemon_config(FULL, gpu=False))
    assert not {"runtimes", "exec-opts"} & config.keys()
    assert config["insecure-registries"] == []


def test_configuration_has_only_keys_of_the_oldest_engine() -> None:
    assert set(json.loads(daemon_config(FULL, gpu=True))) <= set(KNOWN)


@pytest.mark.parametrize(
    ("content", "accepted"), [('{"init": true}', True), ('{"init": true', False), ('{"innit": true}', False)]
)
def test_configuration_is_checked_by_the_script_when_the_engine_cannot_validate(
    content: str, accepted: bool, tmp_path: Path
) -> None:
    file, before, config = tmp_path / "new.json", tmp_path / "state" / "before", tmp_path / "daemon.json"
    file.write_text(content)
    config.write_text("{}")
    check = CHECK.replace("{}", str(file)).replace(CONFIG, str(config))
    check = check.replace("/var/lib/clawd/state/daemon.json.before", str(before))
    # As on Debian 12, whose engine does not know --validate.
    done = subprocess.run(["sh", "-ec", f"dockerd() {{ echo; }}\n{check}"], capture_output=True, text=True)
    assert (done.returncode == 0) == accepted, done.stderr
    assert before.read_text() == "{}"


@pytest.mark.parametrize(
    ("codename", "packages"),
    [("bookworm", "docker.io apparmor"), ("trixie", "docker-cli docker.io"), ("noble", "docker.io apparmor")],
)
def test_docker_packages_of_every_distribution_release_are_installed(codename: str, packages: str) -> None:
    run = plan(DockerSettings(), SystemCodenameFact=SystemCodename("debian", codename))
    (name,) = (name for name in run.names if "docker.io" in name)
    assert set(packages.split()) <= set(name.split())
    assert ("docker-cli" in name) == (codename == "trixie")


def test_docker_packages_of_docker_come_from_its_repository(tmp_path: Path) -> None:
    key = tmp_path / "docker.asc"
    key.write_bytes(b"-----BEGIN PGP PUBLIC KEY BLOCK-----")
    settings = DockerSettings(source="docker", key=key, repository="https://mirror.example.com/docker")
    run = plan(settings, SystemCodenameFact=SystemCodename("ubuntu", "noble"))
    (change,) = (change for change in run.changes if change.path.endswith("clawd-docker.sources"))
    assert "+URIs: https://mirror.example.com/docker/ubuntu" in change.diff
    assert "+Suites: noble" in change.diff
    assert any("docker-ce docker-ce-cli containerd.io" in name for name in run.names)


def test_missing_key_or_unknown_release_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="key of Docker's repository"):
        plan(DockerSettings(source="docker", key=tmp_path / "missing"))
    with pytest.raises(HostError, match="nothing for fedora"):
        plan(DockerSettings(source="docker", key=tmp_path), SystemCodenameFact=SystemCodename("fedora", ""))


AUTHORITY = """\
-----BEGIN CERTIFICATE-----
MIIBmTCCAT+gAwIBAgIUAVztXxlnJwwoekJwwyTlGllFh+kwCgYIKoZIzj0EAwIw
KTEnMCUGA1UEAwwecmVnaXN0cnkgY2VydGlmaWNhdGUgYXV0aG9yaXR5MB4XDTI1
MTIzMTIzNTUwMFoXDTM1MTIzMDAwMDAwMFowKTEnMCUGA1UEAwwecmVnaXN0cnkg
Y2VydGlmaWNhdGUgYXV0aG9yaXR5MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE
CVbSrXn6ZvC9bSkGRVIyREmHjiDA0G/z/pp/M059AIkoxnUsk9hzdF5OEwNxYN2A
sKbz7x5Q5OJ5YC/6wNploKNFMEMwHQYDVR0OBBYEFMomEoYyBPMPaCC/wE7oW4rn
kT9QMBIGA1UdEwEB/wQIMAYBAf8CAQAwDgYDVR0PAQH/BAQDAgEGMAoGCCqGSM49
BAMCA0gAMEUCIA+23AsI1FwkEV0Y5O8s+KjJDq7/3bj8Uh5gBVHwxq4gAiEAuhyf
zOGZ9Q9W90SggTWOI1cNdeow8deY4o/4bWOkhlg=
-----END CERTIFICATE-----
"""
REGISTRIES = ("registry.internal:5000", "mirror.example.com")


def private(folder: Path) -> DockerSettings:
    file = folder / "ca.pem"
    file.write_text(f"\n{AUTHORITY}\n")
    return DockerSettings(registries=REGISTRIES, registry_authority=file)


def test_registry_authority_is_written_to_certs_d_of_every_registry(tmp_path: Path) -> None:
    settings = private(tmp_path)
    paths = [f"/etc/docker/certs.d/{registry}/ca.crt" for registry in REGISTRIES]
    assert list(authorities(settings)) == paths
    for content in authorities(settings).values():
        assert_golden(GOLDEN / "ca.crt", content.decode())
    changed = [change.path for change in plan(settings).changes]
    assert [path for path in changed if path.endswith("ca.crt")] == paths
    assert changed.index("packages") < changed.index(paths[0]), "openssl, which looks at it, comes with them"


def test_authority_of_an_undeclared_registry_is_deleted(tmp_path: Path) -> None:
    kept, old, shared = (f"{FOLDER}/{name}" for name in ("mirror.example.com", "old:5000", f"other/{NAME}"))
    there = {"OwnFact": (kept, old, shared), "PathFact": PathState("directory", "0755", "root", "root")}
    for settings, gone in (
        (private(tmp_path), {old, shared}),
        (DockerSettings(), {kept, old, shared}),
    ):
        removed = {change.path for change in plan(settings, **there).changes if change.diff == ("removed",)}
        assert {path for path in removed if path.startswith(FOLDER)} == gone


def test_own_fact_lists_only_authorities_of_this_program(tmp_path: Path) -> None:
    for registry, text in {"ours": f"{MARK}\n{AUTHORITY}", "theirs": AUTHORITY, "both": f"{MARK}\n"}.items():
        (tmp_path / registry).mkdir()
        (tmp_path / registry / NAME).write_text(text)
    (tmp_path / "both" / "client.cert").touch()
    command = OwnFact().command().replace(FOLDER, str(tmp_path))
    for folder, expected in (
        (tmp_path, (f"{tmp_path}/both/{NAME}", f"{tmp_path}/ours")),
        (tmp_path / "no", ()),
    ):
        asked = command.replace(str(tmp_path), str(folder))
        answer = subprocess.run(["sh", "-c", asked], capture_output=True, text=True, check=True)
        assert OwnFact().process(answer.stdout.splitlines()) == expected


def test_missing_registry_authority_is_refused(tmp_path: Path) -> None:
    settings = DockerSettings(registries=REGISTRIES, registry_authority=tmp_path / "missing")
    with pytest.raises(ArtifactError, match="authority of the registry cannot be read"):
        plan(settings)


@pytest.mark.parametrize(
    ("declared", "registries"),
    [
        ({"registry": "registry.internal:5000/bots"}, ("registry.internal:5000",)),
        ({"registry": "registry"}, ()),
        ({"registry": "localhost"}, ("localhost",)),
        ({"base_image": "python:3.11-slim"}, ()),
        ({"base_image": "library/python:3.11"}, ()),
        ({"base_image": "harbor.example.com/python:3.11"}, ("harbor.example.com",)),
        (
            {"registry": "r:5000", "base_image": "r:5000/p:1", "registry_mirrors": ["https://mirror:8443/"]},
            ("r:5000", "mirror:8443"),
        ),
    ],
)
def test_registries_of_settings_and_image_get_the_authority(
    declared: dict[str, Any], registries: tuple[str, ...]
) -> None:
    whole = inventory(docker={"enabled": True, "registry_authority": "ca.pem", **declared})
    settings = settings_for(whole, "bot1")
    assert settings
    assert settings.registries == registries
    assert settings.registry_authority == Path("ca.pem")


def test_guard_rules_are_loaded_before_the_engine_is_installed() -> None:
    names = plan(DockerSettings()).names
    guard = next(place for place, name in enumerate(names) if "Guard before containers" in name)
    engine = next(place for place, name in enumerate(names) if "docker.io" in name)
    assert guard < engine


def test_guard_rules_are_omitted_without_firewall() -> None:
    assert not [change for change in plan(DockerSettings(guarded=False)).changes if "nft" in change.path]


def test_plan_does_not_show_the_proxy() -> None:
    assert "proxy.example.com" not in repr(plan(FULL).changes)


def test_removal_keeps_images_unless_purged() -> None:
    there: dict[Any, Any] = {
        **BARE,
        RunningFact: True,
        RootsFact: ("/data/docker", "/var/lib/docker"),
        PathFact: PathState("directory", "0755", "root", "root"),
        BroughtFact: frozenset({"docker.io"}),
        UserFact: None,
        GroupFact: frozenset(),
    }
    for purge in (False, True):
        run = Machine({"purge": purge}, facts=there).run(remove, execute=False)
        changed = {change.path: change.diff[:1] for change in run.changes}
        assert {"docker", "packages", "/etc/docker", "user docker"} <= changed.keys()
        for root in ("/data/docker", "/var/lib/docker"):
            assert changed[root][0].startswith("deleted for good" if purge else "stays"), root


def test_removal_names_every_remaining_file_of_the_administrator_once() -> None:
    """Name files that a purge would delete, and files that it leaves to this program."""
    stay = ("/etc/docker/certs.d/registry/ca.crt", "/etc/docker/plugins.json")
    there: dict[Any, Any] = {
        **BARE,
        RunningFact: True,
        RootsFact: (),
        PathFact: PathState("directory", "0755", "root", "root"),
        BroughtFact: frozenset({"docker.io"}),
        UserFact: None,
        GroupFact: frozenset(),
        AddedFact: Added(stay[:1]),
        StaysFact: lambda path, **_: tuple(file for file in stay if file.startswith(f"{path}/")),
    }
    run = Machine(facts=there).run(remove, execute=False)
    lines = [(change.path, line) for change in run.changes for line in change.diff if "of clawd-" in line]
    assert lines == [
        ("packages", "stays: /etc/docker/certs.d/registry/ca.crt, which is not of clawd-provision"),
        ("/etc/docker", "stays: /etc/docker/plugins.json, which is not of clawd-provision"),
    ]


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ({}, {"bot1": False, "web": False}),
        ({"runtime": {"run_with": "docker"}}, {"bot1": True, "web": False}),
        ({"docker": {"enabled": True}}, {"bot1": True, "web": True}),
        ({"docker": {"enabled": False}}, {"bot1": False, "web": False}),
    ],
)
def test_docker_is_installed_where_declared_or_needed(
    declared: dict[str, Any], expected: dict[str, bool]
) -> None:
    whole = inventory({"bot1": ["runtime"], "web": ["nginx"]}, **declared)
    found = {host: settings_for(whole, host) is not None for host in whole.hosts}
    assert found == expected
    assert {host: bool(needs_for(whole, host, UNKNOWN)) for host in whole.hosts} == expected


def test_guard_admits_declared_ports() -> None:
    opened = {"open": [{"port": 5000, "from": ["10.0.0.0/8"]}]}
    settings = settings_for(inventory(docker={"enabled": True}, firewall=opened), "bot1")
    assert settings
    assert guard_rules(settings.openings) == (
        (
            "ct status dnat meta l4proto tcp ct original proto-dst 5000 ip saddr { 10.0.0.0/8 } accept "
            'comment "declared"'
        ),
    )


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("bot: ", set()),
        ("web: 80/tcp", set()),
        ("web: 127.0.0.1:8080->80/tcp, [::1]:8080->80/tcp", set()),
        ("web: 0.0.0.0:8080->80/tcp, :::8080->80/tcp", {"8080/tcp"}),
        ("dns: 10.0.0.5:53->53/udp, [::]:54->54/udp", {"53/udp", "54/udp"}),
        ("range: 0.0.0.0:8000-8001->80-81/tcp", {"8000-8001/tcp"}),
    ],
)
def test_published_finds_ports_beyond_loopback(line: str, expected: set[str]) -> None:
    assert published(line) == expected
