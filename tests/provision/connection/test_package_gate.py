"""What a host without internet may reach: servers of its package sources, at public addresses."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterable
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inventory.model import Inventory
from provision.connection import package_gate
from provision.connection.package_gate import (
    SOURCES,
    Origin,
    PackageGate,
    RefusedError,
    is_public,
    mirrors_of,
    repositories_of,
)

MODELS = {"default": {"engine": "openai-compatible", "endpoint": "https://models.example.com/v1"}}
DEBIAN = Origin("http", "deb.example.com", 80)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What names resolve to."""
    known: dict[str, list[str]] = {"deb.example.com": ["8.8.8.8"]}

    def resolve(host: str, port: int, **_: Any) -> list[Any]:
        found = known.get(host, [host])
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr("provision.connection.package_gate.socket.getaddrinfo", resolve)
    return known


def gate(*sources: str, repositories: Iterable[str] = (), mirrors: Iterable[str] = ()) -> PackageGate:
    return PackageGate(lambda: sources, repositories, mirrors)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://deb.example.com/debian/", Origin("http", "deb.example.com", 80)),
        ("HTTPS://Deb.Example.com./", Origin("https", "deb.example.com", 443)),
        ("https://user:pw@m.example:8443/x", Origin("https", "m.example", 8443)),
        ("http://[2001:db8::1]:3142/debian", Origin("http", "2001:db8::1", 3142)),
        ("mirror+https://m.example/list", Origin("https", "m.example", 443)),
        ("mirror+file:///etc/apt/mirrors/debian.list", None),
        ("cdrom:[Debian]/", None),
        ("file:///srv", None),
        ("ftp://m.example/", None),
        ("http://", None),
        ("http://m.example:0/", None),
        ("http://m.example:99999/", None),
        ("http://[::1/", None),
        ("", None),
    ],
)
def test_origin_is_scheme_host_and_port_of_a_url(url: str, origin: Origin | None) -> None:
    assert Origin.of(url) == origin


def test_only_servers_of_package_sources_are_reachable(names: dict[str, list[str]]) -> None:
    found = gate("http://deb.example.com/debian/", repositories=["https://download.example.com/linux"])
    assert found.addresses(DEBIAN) == ("8.8.8.8",)
    names["download.example.com"] = ["9.9.9.9"]
    assert found.addresses(Origin("https", "download.example.com", 443)) == ("9.9.9.9",)
    for other in (
        Origin("https", "deb.example.com", 443),
        Origin("http", "deb.example.com", 8080),
        Origin("http", "example.com", 80),
        Origin("http", "8.8.8.8", 80),
        Origin("http", "evil.deb.example.com", 80),
    ):
        with pytest.raises(RefusedError, match="is in no package source of the host"):
            found.addresses(other)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.9.9.9", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
        *("169.254.169.254", "100.100.100.200", "192.0.0.192", "0.0.0.0", "255.255.255.255", "224.0.0.1"),
        *("::1", "::", "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "fc00::1", "ff02::1", "fec0::1"),
        *(
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "2002:7f00:1::",
            "64:ff9b::169.254.169.254",
        ),
        "2001:0:4136:e378:8000:63bf:f5ff:fffe",  # Teredo of 10.0.0.1
        "2001:0:a00:1:8000:63bf:f7f7:f7f7",  # Teredo by a server at 10.0.0.1
        *("::127.0.0.1", "::10.0.0.1", "::8.8.8.8", "::ffff:0:127.0.0.1", "::ffff:0:8.8.8.8"),
        *("64:ff9b:1::a00:1", "64:ff9b:1:a00:0:100::", "64:ff9b:1::808:808", "64:ff9b:2::1"),
        *("2002:a00:1::5", "2002:a9fe:a9fe::", "2002:c0a8:101::1"),
        *("2600::5efe:a00:1", "2600::200:5efe:7f00:1"),
        *("100::1", "5f00::1", "4000::1", "fe00::1"),
    ],
)
def test_source_at_a_private_address_is_refused_unless_declared(
    names: dict[str, list[str]], address: str
) -> None:
    names["deb.example.com"] = [address]
    with pytest.raises(RefusedError, match=r"declare it under `base\.mirrors`"):
        gate("http://deb.example.com/debian").addresses(DEBIAN)
    declared = gate(mirrors=["http://deb.example.com/debian"])
    assert declared.addresses(DEBIAN) == (address,)
    names["deb.example.com"] = [address, "8.8.8.8"]
    assert gate("http://deb.example.com/debian").addresses(DEBIAN) == ("8.8.8.8",)


OWN = st.sampled_from(["10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "192.168.0.0/16", "100.64.0.0/10"])
EMBEDDING = (
    lambda v4: v4,
    lambda v4: 0xFFFF << 32 | v4,
    lambda v4: 0xFFFF << 48 | v4,
    lambda v4: 0x64_FF9B << 96 | v4,
    lambda v4: 0x64_FF9B_0001 << 80 | v4,
    lambda v4: 0x64_FF9B_0001 << 80 | v4 >> 16 << 64 | (v4 & 0xFFFF) << 40,
    lambda v4: 0x2002 << 112 | v4 << 80 | 1,
    lambda v4: 0x2001 << 112 | 0x0808_0808 << 64 | (v4 ^ 0xFFFFFFFF),
    lambda v4: 0x2001 << 112 | v4 << 64 | (0x0808_0808 ^ 0xFFFFFFFF),
    lambda v4: 0x2600 << 112 | 0x5EFE << 32 | v4,
)


@given(OWN.flatmap(lambda network: st.ip_addresses(network=network)), st.sampled_from(EMBEDDING))
def test_private_ipv4_addresses_embedded_in_ipv6_are_not_public(
    own: Any, embed: Callable[[int], int]
) -> None:
    assert not is_public(str(own))
    assert not is_public(str(IPv6Address(embed(int(own)))))


@given(st.ip_addresses())
def test_is_public_excludes_every_local_and_private_network(address: Any) -> None:
    text = str(address)
    if is_public(text):
        assert not address.is_loopback
        assert not address.is_link_local
        assert not address.is_multicast
        assert not address.is_unspecified
    elif getattr(address, "ipv4_mapped", None) is None and getattr(address, "sixtofour", None) is None:
        known = (address.is_private, address.is_reserved, address.is_multicast, not address.is_global)
        assert (
            any(known) or getattr(address, "teredo", None) or text.startswith(("64:ff9b", "fec", "192.0.0."))
        )


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "203.0.113.5",
        "198.18.0.7",
        "2606:4700::1",
        "64:ff9b::808:808",
        "::ffff:8.8.8.8",
        "2002:808:808::1",
        "2600::5efe:808:808",
    ],
)
def test_public_and_synthesized_addresses_are_public(address: str) -> None:
    assert ip_address(address)
    assert is_public(address)


def test_package_sources_are_read_again_for_an_unknown_server(
    names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    sources: list[str] = []
    asked: list[float] = []

    def ask() -> list[str]:
        asked.append(0)
        return sources

    found = PackageGate(ask, (), ())
    for _ in range(3):
        with pytest.raises(RefusedError):
            found.addresses(DEBIAN)
    assert len(asked) == 1
    sources.append("http://deb.example.com/debian")
    monkeypatch.setattr(package_gate, "_ASKED_AGAIN_S", 0.0)
    assert found.addresses(DEBIAN) == ("8.8.8.8",)


def test_redirection_is_followed_only_to_public_addresses_at_ports_80_and_443(
    names: dict[str, list[str]],
) -> None:
    names.update({"cdn.example.com": ["9.9.9.9"], "inside.example.com": ["10.0.0.1"]})
    found = gate()
    found.learn("https://cdn.example.com/pool/x.deb")
    found.learn("http://cdn.example.com:8080/x")
    found.learn("http://inside.example.com/x")
    found.learn("nonsense")
    assert found.addresses(Origin("https", "cdn.example.com", 443)) == ("9.9.9.9",)
    for other in (Origin("http", "cdn.example.com", 8080), Origin("http", "inside.example.com", 80)):
        with pytest.raises(RefusedError):
            found.addresses(other)


def test_repositories_of_components_are_reachable_and_declared_ones_may_be_private() -> None:
    hosts = {"one": {"address": "192.0.2.1"}}
    plain = Inventory.model_validate({"hosts": hosts, "models": MODELS})
    assert "https://download.docker.com/linux" in repositories_of(plain)
    assert mirrors_of(plain) == ()
    declared = Inventory.model_validate(
        {
            "hosts": hosts,
            "models": MODELS,
            "base": {"mirrors": ["http://mirror.corp/debian"]},
            "docker": {"repository": "https://mirror.corp/docker"},
            "nvidia": {"toolkit_repository": "https://mirror.corp/toolkit"},
            "logs": {"packages": {"mirror": "https://mirror.corp/elastic"}},
        }
    )
    assert [url.rpartition("/")[2] for url in mirrors_of(declared)] == [
        "debian",
        "docker",
        "toolkit",
        "elastic",
    ]


def test_script_lists_package_sources_and_mirror_lists(tmp_path: Path) -> None:
    listed = tmp_path / "debian.list"
    listed.write_text("# comment\nhttps://one.example/debian\tpriority:1\n  http://two.example/debian\n")
    apt = tmp_path / "apt-get"
    apt.write_text(
        "#!/bin/sh\n[ \"$1 $3\" = 'indextargets $(REPO_URI)' ] || exit 1\n"
        f"echo http://deb.example.com/debian/\necho mirror+file:{listed}\necho http://deb.example.com/debian/\n"
    )
    apt.chmod(0o755)
    done = subprocess.run(
        ["sh", "-c", SOURCES],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [
        "http://deb.example.com/debian/",
        f"mirror+file:{listed}",
        "https://one.example/debian",
        "http://two.example/debian",
    ]
