from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

import pytest

from provision.sandbox.hosts.machine_settings import MachineSettings
from provision.sandbox.layout import Layout


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(
        folder=tmp_path / ".sandbox",
        cache=tmp_path / "cache",
        bridge="clawdt",
        subnet=IPv4Network("10.213.78.0/24"),
        table="clawd_sandbox_test",
    )


@pytest.fixture
def machine() -> MachineSettings:
    return MachineSettings(
        archive="http://mirror.example/debian",
        security="http://mirror.example/security",
        apt_proxy={"http": "http://10.213.78.1:3142"},
        name_servers=("192.0.2.53",),
        own_certificates={"ours.crt": "PEM ours"},
        certificates="PEM all",
    )
