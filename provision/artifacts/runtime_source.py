"""The source of clawd-runtime: `runtime/` of this repository, or its copy in the installed program."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from inventory.errors import ArtifactError
from provision.artifacts import lockfile
from provision.artifacts.archive import ArchivedFile
from provision.artifacts.lockfile import Locked

PACKAGE = "clawd_runtime"
ENGINE = "llama-cpp-python"
_LEFT_OUT = {"__pycache__", "tests"}


@dataclass(frozen=True, slots=True)
class RuntimeSource:
    """The source of clawd-runtime; `folder` contains pyproject.toml, requirements.lock and the package."""

    folder: Path

    @classmethod
    def of_this_program(cls) -> RuntimeSource:
        """Return the source next to the package `provision`, in a clone or an installation."""
        return cls(Path(__file__).resolve().parents[2] / "runtime")

    @property
    def version(self) -> str:
        """Return the version of clawd-runtime."""
        project = tomllib.loads(self._text("pyproject.toml"))["project"]
        return str(project["version"])

    @property
    def locked(self) -> tuple[Locked, ...]:
        """Return all requirements, for all kinds of hosts."""
        return lockfile.parse(self._text("requirements.lock"), name=str(self.folder / "requirements.lock"))

    def files(self) -> tuple[tuple[str, bytes], ...]:
        """Return path (relative to site-packages) and content of the package's files, sorted."""
        package = self.folder / PACKAGE
        found = [
            (path.relative_to(self.folder).as_posix(), path.read_bytes())
            for path in package.rglob("*")
            if path.is_file() and _LEFT_OUT.isdisjoint(path.relative_to(package).parts)
        ]
        if not found:
            raise ArtifactError(f"{package}: is missing", advice="reinstall clawd-provision")
        return tuple(sorted(found))

    def entries(self, folder: str) -> tuple[ArchivedFile, ...]:
        """Return the package's files as entries of an archive, under `folder`."""
        return tuple(
            ArchivedFile(f"{folder}/{path}", partial(bytes, content)) for path, content in self.files()
        )

    def _text(self, name: str) -> str:
        try:
            return (self.folder / name).read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise ArtifactError(
                f"{self.folder / name}: is missing", advice="reinstall clawd-provision"
            ) from error
