"""The files that the Docker engine reads, as pure functions of the settings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network
from typing import Any

from deploys.component import Opening
from deploys.docker.settings import DockerSettings

KNOWN = (
    *(
        "bip",
        "data-root",
        "default-address-pools",
        "exec-opts",
        "features",
        "init",
        "insecure-registries",
        "ip",
    ),
    *("live-restore", "log-driver", "log-opts", "registry-mirrors", "runtimes", "storage-driver"),
)
"""Keys in daemon.json that an engine without `--validate` (Debian 12's 20.10) supports."""


def daemon_config(settings: DockerSettings, *, gpu: bool) -> str:
    """Return the complete `daemon.json`. `gpu`: the host has NVIDIA's container toolkit.

    Source of the keys: docs.docker.com/reference/cli/dockerd, and that of 20.10 where they differ.
    """
    config: dict[str, Any] = {
        "data-root": settings.data_root,
        "log-driver": "local",
        "log-opts": {"max-size": settings.log_size, "max-file": str(settings.log_files)},
        # Containers keep running when the engine or its configuration changes.
        "live-restore": True,
        "init": True,
        # Ports are published for this host only, unless a container names another address.
        "ip": "127.0.0.1",
        # The package starts the engine before this file exists, and the bridge it creates then would stay.
        "bip": f"{settings.address_pool[1]}/24",
        "default-address-pools": [{"base": str(settings.address_pool), "size": 24}],
        # Otherwise the engine falls back to copying whole images where overlay2 is impossible.
        "storage-driver": "overlay2",
        # New installations of engines from 29 on would store images elsewhere, upgraded ones would not.
        "features": {"containerd-snapshotter": False},
        "registry-mirrors": list(settings.registry_mirrors),
        "insecure-registries": [],
    }
    if gpu:
        config["runtimes"] = {"nvidia": {"path": "nvidia-container-runtime", "runtimeArgs": []}}
        # With systemd's driver every daemon-reload takes the GPUs away from running containers.
        config["exec-opts"] = ["native.cgroupdriver=cgroupfs"]
    return json.dumps(config, indent=2) + "\n"


def environment(settings: DockerSettings) -> str:
    """Return the engine's environment: engines before 23.0 take a proxy only from there."""
    if settings.proxy is None:
        return ""
    around = ",".join(("localhost", "127.0.0.0/8", *settings.no_proxy))
    return f"HTTP_PROXY={settings.proxy}\nHTTPS_PROXY={settings.proxy}\nNO_PROXY={around}\n"


def guard_rules(openings: tuple[Opening, ...]) -> tuple[str, ...]:
    """Return the rules that accept connections from outside to published ports: the declared ones.

    A forwarded packet has the port of the container; the published port is that of the connection's first
    packet, which conntrack keeps.
    """
    return tuple(rule for opening in openings for rule in _opening(opening))


def _opening(opening: Opening) -> Iterator[str]:
    match = f"ct status dnat meta l4proto {opening.protocol} ct original proto-dst {opening.port}"
    networks = [ip_network(source) for source in opening.sources]
    if not networks:
        yield f'{match} accept comment "{opening.purpose}"'
    four = [network for network in networks if isinstance(network, IPv4Network)]
    six = [network for network in networks if isinstance(network, IPv6Network)]
    # A set of nftables must not have overlapping networks.
    for family, chosen in (("ip", [*collapse_addresses(four)]), ("ip6", [*collapse_addresses(six)])):
        if written := ", ".join(map(str, chosen)):
            yield f'{match} {family} saddr {{ {written} }} accept comment "{opening.purpose}"'
