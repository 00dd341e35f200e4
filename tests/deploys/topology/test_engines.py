import pytest

from deploys.topology.engines import local_model, model_of
from inventory.errors import ClawdError
from tests.deploys.inventories import LOCAL, REMOTE, inventory


def test_local_fallback_is_served_too() -> None:
    model = local_model(inventory(models={"default": REMOTE, "fallback": LOCAL}))
    assert model is not None
    assert model.context_size == 2048


def test_two_local_models_are_refused() -> None:
    with pytest.raises(ClawdError, match="default, fallback are llama-cpp"):
        local_model(inventory(models={"default": LOCAL, "fallback": LOCAL}))


def test_only_runtime_hosts_serve_the_model() -> None:
    declared = inventory({"bot1": ["runtime"], "web1": ["nginx"]})
    assert model_of(declared, "bot1") is not None
    assert model_of(declared, "web1") is None
