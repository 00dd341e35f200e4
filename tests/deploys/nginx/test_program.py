"""Parts of the program that drains and restores."""

from __future__ import annotations

import importlib.util
import socket
from types import ModuleType

import pytest

from deploys.nginx.settings import NginxSettings
from deploys.ops.paths.files import TEMPLATES, rendered
from deploys.topology.addresses import host_and_port

NAMES = ("127.0.0.1:8080", "bot2.example.com:8080", "[fd00::2]:8080")


@pytest.fixture(scope="module")
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("upstream", TEMPLATES / "nginx" / "upstream.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_draining_and_restoring_a_bot_restores_the_file(program: ModuleType, name: str, shared: bool) -> None:
    settings = NginxSettings(upstreams=NAMES, shared=shared)
    text = rendered("nginx/upstreams.conf", settings.model_dump())
    assert program.servers(text) == dict.fromkeys(NAMES, True)
    drained = program.marked(text, name, up=False)
    assert [line for line in drained.splitlines() if " down" in line] == [
        f"    server {name} {known}{' backup' if not shared and name != NAMES[0] else ''} down;"
        for known in (
            "max_fails=0" if shared else "max_fails=3 fail_timeout=5s",
            "max_fails=3 fail_timeout=5s",
        )
    ]
    assert program.servers(drained) == {other: other != name for other in NAMES}
    assert program.marked(drained, name, up=False) == drained
    assert program.marked(drained, name, up=True) == text


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_connected_finds_an_open_connection(
    program: ModuleType, family: socket.AddressFamily, address: str
) -> None:
    with socket.socket(family) as listener:
        listener.bind((address, 0))
        listener.listen()
        name = host_and_port(address, listener.getsockname()[1])
        assert not program.connected(name)
        with socket.create_connection(listener.getsockname()[:2]):
            assert program.connected(name)
        accepted, _ = listener.accept()
        accepted.close()
        assert not program.connected(name)


def test_connected_considers_an_unknown_name_connected(program: ModuleType) -> None:
    assert program.connected("nowhere.invalid:8080")
