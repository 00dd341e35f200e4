from pathlib import Path

from deploys.artifacts import ModelFile
from deploys.model.settings import model_path, settings_for
from tests.deploys.inventories import LOCAL, REMOTE, inventory


def test_runtime_host_has_the_local_model() -> None:
    settings = settings_for(inventory(), "bot1")
    assert settings is not None
    assert settings.name == "smollm2-135m-q8_0"
    assert settings.sha256 is None


def test_declared_digest_is_kept() -> None:
    settings = settings_for(inventory(models={"default": {**LOCAL, "sha256": "ab" * 32}}), "bot1")
    assert settings is not None
    assert settings.sha256 == "ab" * 32


def test_nginx_host_has_no_model() -> None:
    two = inventory({"bot1": ["runtime"], "web1": ["nginx"]})
    assert settings_for(two, "web1") is None
    assert settings_for(two, "bot1") is not None


def test_remote_model_is_not_put_on_hosts() -> None:
    assert settings_for(inventory(models={"default": REMOTE}), "bot1") is None


def test_model_path_depends_on_its_content() -> None:
    first = ModelFile("m", "1" * 64, 10, source=Path("m.gguf"))
    second = ModelFile("m", "2" * 64, 10, source=Path("m.gguf"))
    assert model_path(first) == "/var/lib/clawd/models/m-111111111111.gguf"
    assert model_path(first) != model_path(second)
