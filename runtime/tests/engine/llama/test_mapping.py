"""Pages of a model's file that are given back."""

from __future__ import annotations

import mmap
from pathlib import Path

from clawd_runtime.engine.llama import mapping

SIZE = 8 << 20


def resident(path: Path) -> int:
    """Return the bytes of the file that this process has in memory."""
    found, counting = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            counting = line.endswith(f" {path}")
        elif counting and line.startswith("Rss:"):
            found += int(line.split()[1]) * 1024
    return found


def test_pages_of_the_file_are_given_back_and_read_again(tmp_path: Path) -> None:
    path, other = tmp_path / "model with space.gguf", tmp_path / "other"
    for file in (path, other):
        file.write_bytes(bytes(range(256)) * (SIZE // 256))
    with path.open("rb") as opened, other.open("rb") as too:
        pages = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        others = mmap.mmap(too.fileno(), 0, access=mmap.ACCESS_READ)
    assert sum(pages[::4096]) == sum(others[::4096])
    assert resident(path) == resident(other) == SIZE
    assert mapping.release(path) == SIZE
    assert resident(path) == 0
    assert resident(other) == SIZE
    assert pages[255] == 255


def test_file_that_is_not_mapped_is_left_alone(tmp_path: Path) -> None:
    assert mapping.release(tmp_path / "missing.gguf") == 0
