"""What tests of components have in common: cooperative blocking calls, and a folder for what they replace."""

from __future__ import annotations

from provision.local import concurrency

# Before anything is imported that keeps a blocking call under a name of its own, as paramiko does.
concurrency.enable()

import pytest  # noqa: E402

from deploys.ops.paths import originals  # noqa: E402


@pytest.fixture(autouse=True)
def kept(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path_factory.mktemp("state")
    for name in ("ORIGINALS", "COMPONENTS", "PACKAGES"):
        monkeypatch.setattr(originals, name, str(folder / name.lower()))
