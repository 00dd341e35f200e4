"""The version of this program."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def program_version() -> str:
    """Return the installed version, or `dev` in a clone that is not installed."""
    try:
        return version("clawd-provision")
    except PackageNotFoundError:
        return "dev"
