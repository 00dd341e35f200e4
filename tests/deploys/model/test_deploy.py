from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deploys.artifacts import ModelFile, Supplies
from deploys.model.deploy import apply, remove
from deploys.model.settings import ModelSettings
from deploys.model.space import RESERVE, Space, SpaceFact
from deploys.ops.facts import PathFact, PathState, PushedFact
from deploys.ops.paths.push import RecordsFact
from inventory.errors import ArtifactError, CapacityError
from tests.deploys.harness import Machine, Run

DIGEST = "ab" * 32
SIZE = 1_000_000
PLACE = f"/var/lib/clawd/models/m-{DIGEST[:12]}.gguf"
ROOMY = Space(free=RESERVE + SIZE, there=False, partial=0)
ABSENT = {PathFact: PathState(), PushedFact: PathState(), SpaceFact: ROOMY}


@pytest.fixture
def pushed(tmp_path: Path) -> ModelFile:
    source = tmp_path / "m.gguf"
    source.write_bytes(b"GGUF")
    return ModelFile("m", DIGEST, SIZE, source=source)


def plan(model: ModelFile | None, declared: str | None = None, **changes: Any) -> Run:
    data = {
        "model": ModelSettings(name="m", sha256=declared),
        "supplies": Supplies(Path("state"), model=model),
    }
    facts = {**ABSENT, SpaceFact: changes["space"]} if "space" in changes else ABSENT
    return Machine(data, facts=facts).run(apply, execute=False)


def test_model_is_pushed_from_this_machine(pushed: ModelFile) -> None:
    run = plan(pushed, declared=DIGEST)
    assert [change.path for change in run.changes] == ["/var/lib/clawd/models", PLACE]
    assert "from this machine" in run.changes[-1].diff[0]


def test_model_is_fetched_by_the_host() -> None:
    run = plan(ModelFile("m", DIGEST, None, url="https://models.example.com/m.gguf"))
    assert run.changes[-1].path == PLACE
    assert "fetched by the host" in run.changes[-1].diff[0]


def test_too_little_disk_space_for_a_model_is_refused(pushed: ModelFile) -> None:
    with pytest.raises(CapacityError, match="model m needs 1 MiB") as caught:
        plan(pushed, space=Space(free=RESERVE, there=False, partial=0))
    assert "free at least 1 MiB" in str(caught.value)


def test_model_with_another_digest_than_declared_is_refused(pushed: ModelFile) -> None:
    with pytest.raises(ArtifactError, match="the inventory says cdcd"):
        plan(pushed, declared="cd" * 32)


def test_missing_model_file_is_an_error() -> None:
    with pytest.raises(ArtifactError, match="no file for model m"):
        plan(None)


def test_model_without_file_and_url_is_an_error() -> None:
    with pytest.raises(ArtifactError, match="neither"):
        plan(ModelFile("m", DIGEST, SIZE))


def test_removal_deletes_models_and_their_records() -> None:
    there = {PathFact: PathState("directory", "0755", "root", "root"), RecordsFact: ("/var/lib/clawd/r",)}
    run = Machine(facts=there).run(remove, execute=False)
    assert [change.diff for change in run.changes] == [("removed",), ("no longer remembered",)]
    assert {change.path for change in run.changes} == {"/var/lib/clawd/models"}
