"""Notifications to systemd: readiness, watchdog and shutdown.

Protocol: https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html — one datagram of
`NAME=VALUE` lines to the socket named in `$NOTIFY_SOCKET`. Without that variable nothing is sent.
"""

from __future__ import annotations

import os
import socket


def notify(*assignments: str) -> bool:
    """Send `assignments` (such as `READY=1`) to the service manager and return whether they were sent.

    A missing or closed socket is not an error.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.sendto("\n".join(assignments).encode(), address)
    except OSError:
        return False
    return True


def watchdog_seconds() -> float | None:
    """Return the seconds within which systemd expects each `WATCHDOG=1`; `None` without a watchdog."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    watched = os.environ.get("WATCHDOG_PID", str(os.getpid()))
    if not microseconds.isdigit() or int(microseconds) == 0 or watched != str(os.getpid()):
        return None
    return int(microseconds) / 1_000_000
