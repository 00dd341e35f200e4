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
"""Keys that an engine without `--validate` (Debian 12's 20.10) understands, of those we might write."""


def daemon_config(settings: DockerSettings, *, gpu: bool) -> str:
    """`daemon.json`, whole. `gpu` says that the host has NVIDIA's container toolkit.

    Source of the keys: docs.docker.com/reference/cli/dockerd, and the 20.10 one where they differ.
    """
    config: dict[str, Any] = {
        "data-root": settings.data_root,
        "log-driver": "local",
        "log-opts": {"max-size": settings.log_size, "max-file": str(settings.log_files)},
        # A new engine or configuration does not end the containers.
        "live-restore": True,
        "init": True,
        # What a container publishes is for this host, unless it names another address.
        "ip": "127.0.0.1",
        # The package starts the engine before this file is there, and the bridge it makes then would stay.
        "bip": f"{settings.address_pool[1]}/24",
        "default-address-pools": [{"base": str(settings.address_pool), "size": 24}],
        # Otherwise the engine falls back to copying whole images where overlay2 is impossible.
        "storage-driver": "overlay2",
        # Engines from 29 on would keep images elsewhere when new, and not when upgraded.
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
    """The engine's environment: engines before 23.0 know of a proxy in no other way."""
    if settings.proxy is None:
        return ""
    around = ",".join(("localhost", "127.0.0.0/8", *settings.no_proxy))
    return f"HTTP_PROXY={settings.proxy}\nHTTPS_PROXY={settings.proxy}\nNO_PROXY={around}\n"


def guard_rules(openings: tuple[Opening, ...]) -> tuple[str, ...]:
    """The rules that let published ports be reached from outside: the declared ones.

    By the time a packet is forwarded its port is the container's; the published one is that of the
    connection's first packet, which conntrack remembers.
    """
    return tuple(rule for opening in openings for rule in _opening(opening))


def _opening(opening: Opening) -> Iterator[str]:
    match = f"ct status dnat meta l4proto {opening.protocol} ct original proto-dst {opening.port}"
    networks = [ip_network(source) for source in opening.sources]
    if not networks:
        yield f'{match} accept comment "{opening.purpose}"'
    four = [network for network in networks if isinstance(network, IPv4Network)]
    six = [network for network in networks if isinstance(network, IPv6Network)]
    # A set of nftables may not hold networks that overlap.
    for family, chosen in (("ip", [*collapse_addresses(four)]), ("ip6", [*collapse_addresses(six)])):
        if written := ", ".join(map(str, chosen)):
            yield f'{match} {family} saddr {{ {written} }} accept comment "{opening.purpose}"'
