from __future__ import annotations

from ipaddress import IPv4Address

from provision.sandbox.hosts import machine_settings


def test_mirrors_are_those_of_this_machine() -> None:
    targets = (
        "nodistro|nodistro|http://elsewhere.example/\n"
        "Debian|Debian|http://mirror.example/debian/\n"
        "Debian|Debian-Security|http://mirror.example/security/\n"
        "Debian|Debian|http://second.example/debian/\n"
    )
    assert machine_settings.mirrors(targets) == (
        "http://mirror.example/debian",
        "http://mirror.example/security",
    )


def test_machine_without_debian_and_security_sources_has_no_mirrors() -> None:
    assert machine_settings.mirrors("Ubuntu|Ubuntu|http://mirror.example/ubuntu/\n") == (None, None)
    assert machine_settings.mirrors("Debian|Debian|http://mirror.example/debian/\n") == (None, None)


def test_proxies_of_apt_are_read() -> None:
    dump = (
        'APT::Architecture "amd64";\nAcquire::http::Proxy "http://127.0.0.1:3142";\n'
        'Acquire::https::Proxy "DIRECT";\nAcquire::http::Proxy::mirror.example "DIRECT";\n'
    )
    assert machine_settings.proxies(dump) == {"http": "http://127.0.0.1:3142"}


def test_loopback_proxy_is_replaced_by_the_gateway_address() -> None:
    gateway = IPv4Address("10.213.78.1")
    proxies = {"http": "http://localhost:3142/", "https": "http://proxy.example:8080"}
    assert machine_settings.reachable(proxies, gateway) == {
        "http": "http://10.213.78.1:3142/",
        "https": "http://proxy.example:8080",
    }


def test_loopback_name_server_is_replaced_by_upstream_ones() -> None:
    stub = "# by systemd-resolved\nnameserver 127.0.0.53\noptions edns0\n"
    real = "nameserver 192.0.2.53\nnameserver 192.0.2.54\nnameserver fe80::1\n"
    assert machine_settings.name_servers(stub, real) == ("192.0.2.53", "192.0.2.54")
    assert machine_settings.name_servers(real, stub) == ("192.0.2.53", "192.0.2.54")
    assert machine_settings.name_servers(stub) == ()
