"""Secrets, each in a file `$CREDENTIALS_DIRECTORY/<name>` (systemd's LoadCredential)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from clawd_runtime.errors import SettingsError

MAX_BYTES = 64 * 1024


class Credentials:
    """Named secrets. Its `repr` shows only the names."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def get(self, name: str) -> str | None:
        """Return the secret; None if it was not given."""
        return self._values.get(name)

    def named(self) -> dict[str, str]:
        """Return all secrets by name."""
        return dict(self._values)

    def values(self) -> tuple[str, ...]:
        """Return all secrets, which no log may contain."""
        return tuple(self._values.values())

    def __repr__(self) -> str:
        return f"Credentials({', '.join(sorted(self._values))})"


def read_credentials(directory: Path | None, required: Iterable[str], optional: Iterable[str]) -> Credentials:
    """Read the `required` secrets, and the `optional` ones that exist.

    A final line break is not part of a secret. Raise `SettingsError`, naming every file that is missing,
    empty or unreadable: the bot does not start without its secrets.
    """
    wanted = dict.fromkeys(required, True) | dict.fromkeys(optional, False)
    if directory is None:
        if any(wanted.values()):
            raise SettingsError(
                f"cannot read credentials: $CREDENTIALS_DIRECTORY is not set, but {_names(required)} "
                "required",
                advice="start the bot through its systemd unit, or set the variable to a folder with one "
                "file per credential",
            )
        return Credentials({})
    values: dict[str, str] = {}
    problems: list[str] = []
    for name, needed in wanted.items():
        path = directory / name
        if not path.exists() and not needed:
            continue
        try:
            values[name] = _read(path)
        except (OSError, ValueError) as problem:
            problems.append(f"{path}: {_reason(problem)}")
    if problems:
        raise SettingsError("cannot read credentials: " + "; ".join(problems))
    return Credentials(values)


def _read(path: Path) -> str:
    with path.open("rb") as file:
        raw = file.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise ValueError(f"longer than {MAX_BYTES} bytes")
    try:
        text = raw.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError("not UTF-8 text") from None
    if not text.strip():
        raise ValueError("empty")
    return text


def _reason(problem: OSError | ValueError) -> str:
    return (problem.strerror or "cannot be read") if isinstance(problem, OSError) else str(problem)


def _names(names: Iterable[str]) -> str:
    listed = list(names)
    return f"{', '.join(listed)} {'is' if len(listed) == 1 else 'are'}"
