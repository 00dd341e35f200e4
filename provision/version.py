"""The version of this program."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def program_version() -> str:
    """The installed version, or `dev` when run from a clone that is not installed."""
    try:
        return version("clawd-provision")
    except PackageNotFoundError:
        return "dev"
