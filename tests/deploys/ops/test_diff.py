"""What is recorded belongs to the operation's latest evaluation."""

from __future__ import annotations

from pathlib import Path

from pyinfra import host

from deploys.ops.diff import collected, expected, text_diff
from deploys.ops.paths import files
from tests.deploys.harness import OWN, Machine


def test_changes_are_collected_per_operation(tmp_path: Path) -> None:
    (tmp_path / "same").write_text("x")
    (tmp_path / "same").chmod(0o644)

    def operations() -> None:
        metas = [files.put(str(tmp_path / name), "x", **OWN) for name in ("new", "same")]
        assert [len(collected(host, meta._hash)) for meta in metas] == [1, 0]
        assert expected(host, str(tmp_path / "new"))
        assert not expected(host, str(tmp_path / "same"))

    assert Machine().run(operations).predictions == (True, False)


def test_second_evaluation_replaces_recorded_changes(tmp_path: Path) -> None:
    path = tmp_path / "f"
    held = []

    def operations() -> None:
        # The second finds, when executing, what the first has done; preparing it could not know.
        held.append(host.get_fact.__self__)
        files.put(str(path), "x", **OWN)
        held.append(files.put(str(path), "x", **OWN))

    run = Machine().run(operations)
    assert run.predictions == (True, True)
    assert run.results == (True, False)
    assert collected(held[0], held[1]._hash) == []


def test_text_diff_of_new_binary_and_equal_content() -> None:
    assert text_diff(None, b"a\n") == ("@@ -0,0 +1 @@", "+a")
    assert text_diff(b"\xff", b"a\n") == ("binary content, 2 bytes",)
    assert text_diff(b"a\n", b"a\n") == ()
