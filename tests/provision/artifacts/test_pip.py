from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from inventory.errors import ArtifactError, ToolError
from provision.artifacts import lockfile, pip

ONLY_WHEELS = ("--only-binary", ":all:")


@pytest.mark.parametrize(
    ("output", "error", "message"),
    [
        (["/usr/bin/python3: No module named pip"], ToolError, "ensurepip"),
        (
            ["ERROR: THESE PACKAGES DO NOT MATCH THE HASHES", "Got abc"],
            ArtifactError,
            "not the locked one",
        ),
        (["ERROR: No matching distribution found for x==1"], ArtifactError, "does not exist for this kind"),
        (
            ["WARNING: Retrying (Retry(total=0", "ERROR: No matching distribution found for x==1"],
            ArtifactError,
            "check the network",
        ),
        (["ERROR: something else"], ArtifactError, "something else"),
    ],
)
def test_a_failure_is_told_by_its_cause(output: list[str], error: type[Exception], message: str) -> None:
    told = pip.failure("packages for x", output)
    assert isinstance(told, error)
    assert message in str(told)
    assert "packages for x" in str(told)


def test_a_login_of_a_mirror_is_never_shown() -> None:
    told = pip.failure("x", ["ERROR: cannot reach https://anna:geheim@mirror.example/simple"])
    assert "geheim" not in str(told)
    assert "mirror.example" in str(told)


def test_exactly_the_locked_files_are_fetched_and_progress_is_told(
    only_local_index: Path, make_wheel: Callable[..., Path], lock_line: Callable[..., str], tmp_path: Path
) -> None:
    wheels = {name: make_wheel(name) for name in ("alpha", "beta")}
    make_wheel("alpha", "2.0")
    entries = lockfile.parse("".join(lock_line(w, name=n) for n, w in wheels.items()), name="x")
    told: list[tuple[str, float | None]] = []
    pip.download(
        entries, tmp_path / "out", ONLY_WHEELS, what="these",
        progress=lambda message, fraction=None: told.append((message, fraction)),
    )  # fmt: skip
    assert {f.name: f.read_bytes() for f in (tmp_path / "out").iterdir()} == {
        w.name: w.read_bytes() for w in wheels.values()
    }
    assert [fraction for _, fraction in told] == [0.0, 0.5]
    assert told[0][0].startswith("these: downloading alpha")


def test_a_changed_file_is_refused(
    only_local_index: Path, make_wheel: Callable[..., Path], lock_line: Callable[..., str], tmp_path: Path
) -> None:
    entries = lockfile.parse(lock_line(make_wheel("alpha"), name="alpha"), name="x")
    make_wheel("alpha", files={"alpha/__init__.py": b"import evil"})
    with pytest.raises(ArtifactError, match="not the locked one"):
        pip.download(entries, tmp_path / "out", ONLY_WHEELS, what="these")


def test_the_user_s_constraints_do_not_reach_what_is_locked(
    only_local_index: Path,
    make_wheel: Callable[..., Path],
    lock_line: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entries = lockfile.parse(lock_line(make_wheel("alpha"), name="alpha"), name="x")
    (tmp_path / "constraints.txt").write_text("alpha==3.0\n")
    monkeypatch.setenv("PIP_CONSTRAINT", str(tmp_path / "constraints.txt"))
    pip.download(entries, tmp_path / "out", ONLY_WHEELS, what="these")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["alpha-1.0-py3-none-any.whl"]
