"""What tests of components have in common: what they replace here is kept in a folder of theirs."""

from __future__ import annotations

import pytest

from deploys.ops import originals


@pytest.fixture(autouse=True)
def kept(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path_factory.mktemp("state")
    for name in ("ORIGINALS", "COMPONENTS", "PACKAGES"):
        monkeypatch.setattr(originals, name, str(folder / name.lower()))
