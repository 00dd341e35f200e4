"""Settings that Elastic's programs have in common: packages, and the password of the inventory. Pure."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr

from deploys.component import ComponentSettings
from inventory.model import Inventory
from inventory.sections.logs import ELASTIC_FINGERPRINT, ELASTIC_REPOSITORY, ElasticPackages
from inventory.values import MIB, size_in_bytes


class PackageSettings(ComponentSettings):
    """The source of Elastic's packages. Paths are those of the laptop."""

    version: str = ElasticPackages().version
    mirror: str = ELASTIC_REPOSITORY
    key: Path | None = None
    fingerprint: str = ELASTIC_FINGERPRINT
    folder: Path | None = None
    proxy: str | None = None


def package_settings(inventory: Inventory) -> PackageSettings:
    """Return where the packages come from."""
    return PackageSettings.model_validate(inventory.logs.packages.model_dump())


def root_password(inventory: Inventory) -> SecretStr:
    """Return the password that the services' are derived from; the rules ensure that it is declared."""
    return inventory.logs.password or SecretStr("")


def mebibytes(size: str | int) -> int:
    """Return a size in MiB, as Java's and Node's options take it."""
    return (size_in_bytes(size) if isinstance(size, str) else size) // MIB
