"""One typed object holds what operations of a host share, and no other module knows pyinfra's dictionary."""

from __future__ import annotations

import ast
from pathlib import Path
from types import SimpleNamespace

from deploys.ops.run_state import forget_sudo_password, run_state

ROOT = Path(__file__).resolve().parents[3]
PLACE = "deploys/ops/run_state.py"


def uses_connector_data(source: str) -> bool:
    return any(
        getattr(node, "attr", getattr(node, "value", None)) == "connector_data"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute | ast.Constant)
    )


def test_only_run_state_uses_connector_data_of_pyinfra() -> None:
    sources = [path for layer in ("deploys", "provision") for path in (ROOT / layer).rglob("*.py")]
    found = [str(path.relative_to(ROOT)) for path in sources if uses_connector_data(path.read_text())]
    assert found == [PLACE]


def test_use_of_connector_data_is_found_as_attribute_and_as_name() -> None:
    assert uses_connector_data("host.connector_data['key'] = 1")
    assert uses_connector_data("getattr(host, 'connector_data')")
    assert not uses_connector_data("host.data.key = 1")


def test_run_state_is_one_object_a_host() -> None:
    one, other = SimpleNamespace(connector_data={}), SimpleNamespace(connector_data={})
    run_state(one).leaving_programs.add("kibana")
    assert run_state(one).leaving_programs == {"kibana"}
    assert run_state(other).leaving_programs == set()


def test_forgotten_sudo_password_leaves_the_rest_of_the_state() -> None:
    host = SimpleNamespace(connector_data={"sudo_askpass_path": "/tmp/clawd-askpass"})
    state = run_state(host)
    forget_sudo_password(host)
    assert "sudo_askpass_path" not in host.connector_data
    assert run_state(host) is state
