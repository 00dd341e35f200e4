import subprocess
from pathlib import Path

import pytest

from deploys.model.space import RESERVE, Space, SpaceFact, shortage_of


@pytest.mark.parametrize(
    ("space", "size", "missing"),
    [
        (Space(free=RESERVE + 100, there=False, partial=0), 100, 0),
        (Space(free=RESERVE + 99, there=False, partial=0), 100, 1),
        (Space(free=RESERVE + 40, there=False, partial=60), 100, 0),
        (Space(free=0, there=False, partial=60), 100, 40 + RESERVE),
        (Space(free=0, there=True, partial=0), 100, 0),
    ],
)
def test_shortage_counts_partial_copies_and_the_reserve(space: Space, size: int, missing: int) -> None:
    assert shortage_of(space, size) == missing


def asked(path: Path) -> Space:
    fact = SpaceFact()
    run = subprocess.run(
        ["sh", "-c", fact.command(path=str(path))], capture_output=True, text=True, check=True
    )
    return fact.process(run.stdout.splitlines())


def test_space_is_read_for_a_folder_that_does_not_exist_yet(tmp_path: Path) -> None:
    space = asked(tmp_path / "not" / "yet" / "model.gguf")
    assert space.free > 0
    assert not space.there
    assert space.partial == 0


def test_space_fact_finds_partial_copies_and_the_whole_file(tmp_path: Path) -> None:
    (tmp_path / "model.gguf.0123456789abcdef.part").write_bytes(b"x" * 1000)
    (tmp_path / "other.gguf.0123456789abcdef.part").write_bytes(b"x" * 1000)
    assert asked(tmp_path / "model.gguf").partial == 1000
    (tmp_path / "model.gguf").touch()
    assert asked(tmp_path / "model.gguf").there
