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
def test_failure_of_pip_is_classified_by_its_cause(
    output: list[str], error: type[Exception], message: str
) -> None:
    problem = pip.failure("packages for x", output)
    assert isinstance(problem, error)
    assert message in str(problem)
    assert "packages for x" in str(problem)


def test_login_of_a_mirror_is_not_shown() -> None:
    problem = pip.failure("x", ["ERROR: cannot reach https://anna:geheim@mirror.example/simple"])
    assert "geheim" not in str(problem)
    assert "mirror.example" in str(problem)


def test_download_fetches_only_locked_files_and_reports_progress(
    only_local_index: Path, make_wheel: Callable[..., Path], lock_line: Callable[..., str], tmp_path: Path
) -> None:
    wheels = {name: make_wheel(name) for name in ("alpha", "beta")}
    make_wheel("alpha", "2.0")
    entries = lockfile.parse("".join(lock_line(w, name=n) for n, w in wheels.items()), name="x")
    reported: list[tuple[str, float | None]] = []
    pip.download(
        entries, tmp_path / "out", ONLY_WHEELS, what="these",
        progress=lambda message, fraction=None: reported.append((message, fraction)),
    )  # fmt: skip
    assert {f.name: f.read_bytes() for f in (tmp_path / "out").iterdir()} == {
        w.name: w.read_bytes() for w in wheels.values()
    }
    assert [fraction for _, fraction in reported] == [0.0, 0.5]
    assert reported[0][0].startswith("these: downloading alpha")


def test_file_with_another_hash_is_refused(
    only_local_index: Path, make_wheel: Callable[..., Path], lock_line: Callable[..., str], tmp_path: Path
) -> None:
    entries = lockfile.parse(lock_line(make_wheel("alpha"), name="alpha"), name="x")
    make_wheel("alpha", files={"alpha/__init__.py": b"import evil"})
    with pytest.raises(ArtifactError, match="not the locked one"):
        pip.download(entries, tmp_path / "out", ONLY_WHEELS, what="these")


def test_pip_constraints_of_the_user_are_ignored(
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
