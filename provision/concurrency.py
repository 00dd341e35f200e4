"""Makes blocking calls cooperative, as pyinfra needs. Import before anything that opens sockets."""

from __future__ import annotations

from gevent import monkey


def enable() -> None:
    """Patches sockets, threads and subprocesses for gevent, once."""
    if not monkey.is_module_patched("socket"):
        monkey.patch_all()
