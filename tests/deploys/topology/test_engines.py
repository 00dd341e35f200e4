from deploys.topology.engines import further_models, further_unit, local_model, model_of
from tests.deploys.inventories import LOCAL, REMOTE, inventory


def test_local_fallback_is_served_too() -> None:
    model = local_model(inventory(models={"default": REMOTE, "fallback": LOCAL}))
    assert model is not None
    assert model.context_size == 2048


def test_further_local_models_have_engines_of_their_own() -> None:
    declared = inventory(
        {"bot1": ["runtime"], "web1": ["nginx"]},
        models={"default": REMOTE, "fallback": LOCAL, "new": {**LOCAL, "context_size": 1024}},
    )
    first = local_model(declared)
    assert first is not None
    assert first.context_size == 2048
    assert {name: model.context_size for name, model in further_models(declared, "bot1").items()} == {
        "new": 1024
    }
    assert further_models(declared, "web1") == {}
    assert further_unit("new") == "clawd-engine@new"


def test_only_runtime_hosts_serve_the_model() -> None:
    declared = inventory({"bot1": ["runtime"], "web1": ["nginx"]})
    assert model_of(declared, "bot1") is not None
    assert model_of(declared, "web1") is None
