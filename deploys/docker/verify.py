"""Read-only checks of the Docker engine."""

from __future__ import annotations

import json
from typing import Any

from deploys.docker.authorities import authorities
from deploys.docker.config import daemon_config, environment
from deploys.docker.deploy import CONFIG, ENVIRONMENT, GUARD, READS, STAMP, TABLE
from deploys.docker.settings import DockerSettings
from deploys.nvidia.gpus import machine_of
from deploys.ops.checks import (
    expect,
    expect_at_boot,
    expect_content,
    expect_original,
    expect_started_with,
    expect_unit,
    said,
)


def test_engine_runs_with_what_is_on_the_disk(host: Any) -> None:
    expect_started_with(host, "docker.service", watch=READS, at_boot=False)
    expect_original(host, "dockerd")


def test_engine_starts_at_boot(host: Any) -> None:
    expect_at_boot(host, "docker.service")
    # The engine starts these two itself.
    for unit in ("docker.socket", "containerd.service"):
        expect_unit(host, unit, at_boot=False)


def test_configuration_as_declared(host: Any, settings: DockerSettings) -> None:
    gpu = settings.gpu and bool(machine_of(host, settings.root).gpus)
    declared = daemon_config(settings, gpu=gpu)
    expect_content(host, CONFIG, declared)
    expect_content(host, ENVIRONMENT, environment(settings))


def test_registries_are_checked_by_the_declared_authority(host: Any, settings: DockerSettings) -> None:
    for path, content in authorities(settings).items():
        expect(host.file(path).is_file, f"{path} is missing")
        same = host.file(path).content == content
        expect(same, f"{path} is not the declared `docker.registry_authority`")


def test_engine_goes_by_its_configuration(host: Any, settings: DockerSettings) -> None:
    shown = host.run("docker info --format '{{json .}}'")
    expect(shown.rc == 0, f"the engine does not answer: {said(shown)}", "read `journalctl -u docker` there")
    info = json.loads(shown.stdout)
    expect(info["LiveRestoreEnabled"], "live-restore is off: containers would end with the engine")
    wanted = {"LoggingDriver": "local", "Driver": "overlay2", "DockerRootDir": settings.data_root}
    for name, value in wanted.items():
        expect(info[name] == value, f"the engine's {name} is {info[name]}, and should be {value}")


def test_guard_in_force(host: Any, settings: DockerSettings) -> None:
    live = host.run(f"nft --stateless --numeric list table {TABLE}")
    if not settings.guarded:
        expect(live.rc != 0, f"the table {TABLE} is loaded, and the firewall is not declared")
        return
    expect(live.rc == 0, "published ports are open to everyone: the guard is not loaded")
    digest = host.check_output(f"nft --stateless --numeric list table {TABLE} | sha256sum | cut -c1-64")
    applied = host.file(STAMP).content_string.strip()
    same = applied == f"{host.file(GUARD).sha256sum} {digest}"
    expect(same, f"the guard was changed since it was applied ({GUARD})")


def test_nothing_is_published_past_the_firewall(host: Any, settings: DockerSettings) -> None:
    shown = host.run("docker ps --format '{{.Names}}: {{.Ports}}'")
    expect(shown.rc == 0, f"the engine does not answer: {said(shown)}")
    declared = {f"{item.port}/{item.protocol}" for item in settings.openings}
    open_to_all = [line for line in shown.stdout.splitlines() if published(line) - declared]
    expect(
        not open_to_all,
        "published to other hosts and not in firewall.open, so the guard keeps it closed: "
        f"{'; '.join(open_to_all)}",
        "publish on 127.0.0.1, or declare the port under firewall.open",
    )


def published(line: str) -> set[str]:
    """Return the ports `PORT/PROTOCOL` in a line of `docker ps` that are published beyond loopback.

    Docker writes them `0.0.0.0:8080->80/tcp, :::8080->80/tcp, 127.0.0.1:9000->90/tcp`.
    """
    ports = set()
    for item in line.partition(": ")[2].split(", "):
        outside, arrow, inside = item.partition("->")
        address, _, port = outside.rpartition(":")
        if arrow and not address.startswith(("127.", "[::1]", "::1")):
            ports.add(f"{port}/{inside.rpartition('/')[2]}")
    return ports
