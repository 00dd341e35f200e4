"""The model's file in this process's memory.

llama.cpp maps the file. Where it computes with copies of the weights in another arrangement (AMX, repacked
Q4_0), the pages that it copied from stay mapped, as if every weight was needed twice.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

MAPS = Path("/proc/self/maps")
_DONTNEED = 4
"""`MADV_DONTNEED` of Linux: pages of a file are given back, and read again when they are needed."""


def release(path: Path) -> int:
    """Give back the pages of the model's file, and return the number of bytes that were mapped.

    What is still computed from comes back at its first use, from the system's page cache. Does nothing
    where the system has no list of mappings.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    released = 0
    try:
        lines = os.fsencode(MAPS.read_text(errors="surrogateescape")).splitlines()
    except OSError:
        return 0
    for line in lines:
        # address range, rights, offset, device, inode, path
        fields = line.split(None, 5)
        if len(fields) < 6 or fields[5] != os.fsencode(path.resolve()):
            continue
        start, end = (int(address, 16) for address in fields[0].split(b"-"))
        if libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _DONTNEED) == 0:
            released += end - start
    return released
