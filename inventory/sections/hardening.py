"""Hardening, as declared."""

from __future__ import annotations

from inventory.declared import Declared


class Hardening(Declared):
    """What makes a host harder to break into, beyond SSH keys and firewall."""
