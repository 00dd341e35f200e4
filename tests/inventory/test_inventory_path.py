from __future__ import annotations

from pathlib import Path

import pytest

from inventory.errors import ClawdError
from inventory.inventory_path import find, inventories


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "inventory").mkdir()
    (tmp_path / "inventory" / "prod.yml").touch()
    (tmp_path / "inventory" / "staging.yaml").touch()
    (tmp_path / "inventory" / "model.py").touch()
    (tmp_path / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_find_returns_the_inventory_with_the_name(project: Path) -> None:
    assert find("prod") == Path("inventory/prod.yml")
    assert find("staging") == Path("inventory/staging.yaml")


def test_find_searches_parent_folders(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project / "deep" / "er")
    assert find("prod") == project / "inventory" / "prod.yml"
    assert find("prod", start=project) == project / "inventory" / "prod.yml"


def test_find_prefers_the_nearest_inventory_folder(project: Path) -> None:
    (project / "deep" / "inventory").mkdir()
    (project / "deep" / "inventory" / "prod.yml").touch()
    assert find("prod", project / "deep" / "er") == Path("deep/inventory/prod.yml")
    assert find("staging", project / "deep") == Path("inventory/staging.yaml")


def test_find_accepts_a_path(project: Path) -> None:
    (project / "my-file").touch()
    assert find("my-file") == Path("my-file")
    assert find("inventory/prod.yml") == Path("inventory/prod.yml")
    assert find(str(project / "inventory" / "prod.yml")) == project / "inventory" / "prod.yml"


def test_find_ignores_a_folder_with_the_name(project: Path) -> None:
    (project / "prod").mkdir()
    assert find("prod") == Path("inventory/prod.yml")


def test_unknown_name_is_refused_with_available_inventories(project: Path) -> None:
    with pytest.raises(ClawdError) as raised:
        find("prd")
    assert raised.value.message == "there is no inventory `prd`"
    assert raised.value.advice == (
        "did you mean `prod`? available: prod (inventory/prod.yml), staging (inventory/staging.yaml)"
    )


def test_unknown_path_is_refused_with_available_inventories(project: Path) -> None:
    with pytest.raises(ClawdError) as raised:
        find("inventory/prood.yml")
    assert raised.value.message == "there is no file inventory/prood.yml"
    assert raised.value.advice.startswith("did you mean `prod`? available:")


def test_find_without_any_inventory_says_which_file_to_write(tmp_path: Path) -> None:
    with pytest.raises(ClawdError, match=r"write inventory/prod\.yml"):
        find("prod", tmp_path)


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 5000, "../..", "/"])
def test_malformed_inventory_names_are_refused(project: Path, name: str) -> None:
    with pytest.raises(ClawdError):
        find(name)


def test_inventories_lists_every_name(project: Path) -> None:
    assert sorted(inventories(project / "deep")) == ["prod", "staging"]
