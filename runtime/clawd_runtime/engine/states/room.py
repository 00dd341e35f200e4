"""Memory for saved states, which returns to the system as soon as a state is dropped."""

from __future__ import annotations

import mmap

StateBuffer = mmap.mmap
"""The memory of one state. Not from the heap, which would keep it after the state is dropped."""


def allocate(size: int) -> StateBuffer:
    """Return memory of at least `size` bytes.

    Raises:
        OSError: There is not enough memory.

    """
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
