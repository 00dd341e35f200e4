"""Supplies of the laptop for a host, which components receive in addition to their settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ReleaseArchive:
    """A release of clawd-runtime built for one kind of host: `.tar.gz` with `site-packages/` inside.

    `sha256` and `size` are those of the archive, by which its transfer is verified. `manifest_digest` is the
    digest of the files in it: archives from two laptops may differ and yet contain the same release. Without
    it, the archive's own digest identifies the release.
    """

    archive: Path
    sha256: str
    size: int
    manifest_digest: str | None = None
    engine_digest: str | None = None
    """Digest of the files that the engine reads. A release with the same one leaves the engine running."""

    @property
    def id(self) -> str:
        """Return the name of the release's folder on the host."""
        return self.content[:16]

    @property
    def content(self) -> str:
        """Return the digest by which a host recognises the release in any archive."""
        return self.manifest_digest or self.sha256


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A GGUF file: pushed from `source`, or fetched by the host from `url`."""

    name: str
    sha256: str
    size: int | None
    source: Path | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Rotation:
    """A change of the project's authority: which former ones hosts still trust, and what comes next.

    `former` are their certificates in PEM. With `introducing` there are hosts that may not trust the new
    authority yet, so certificates that a former one signed stay; without, they are signed again.
    """

    former: tuple[bytes, ...] = ()
    introducing: bool = False


NO_ROTATION = Rotation()


@dataclass(frozen=True, slots=True)
class Supplies:
    """Everything the laptop brings to one host."""

    state_folder: Path
    release: ReleaseArchive | None = None
    model: ModelFile | None = None
    further_models: Mapping[str, ModelFile] = field(default_factory=dict)
    """Files of the models that are served next to `model`, by their names in the inventory."""
    template_overrides: Path | None = None
    names: tuple[str, ...] = ()
    """DNS names and addresses of the project. Its authority signs only for these; when empty, for any."""
    rotation: Rotation = NO_ROTATION
