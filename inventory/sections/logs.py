"""The section `logs` of an inventory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr

from inventory.types import Declared, Network, Proxy, RepositoryUrl, Size

ELASTIC_REPOSITORY = "https://artifacts.elastic.co/packages/9.x/apt"
ELASTIC_FINGERPRINT = "46095ACC8548582C1A2699A9D27D666CD88E42B4"
"""Fingerprint of the key that signs Elastic's packages:
https://www.elastic.co/docs/deploy-manage/deploy/self-managed."""


class ElasticPackages(Declared):
    """The source of Elastic's packages."""

    version: str = Field(
        "9.4.9", pattern=r"^9\.[0-9]+\.[0-9]+$", description="Version of all four programs on all hosts."
    )
    mirror: RepositoryUrl = Field(
        ELASTIC_REPOSITORY, description="URL of Elastic's apt repository or a mirror."
    )
    key: Path | None = Field(
        None,
        description="Path of the repository's public key; when absent, the laptop downloads Elastic's.",
    )
    fingerprint: str = Field(
        ELASTIC_FINGERPRINT,
        pattern=r"^[0-9A-F]{40}$",
        description="Required fingerprint of the key; change it only for a repository that you sign "
        "yourself.",
    )
    folder: Path | None = Field(
        None,
        description="Path of a folder on the laptop with the .deb files to push, instead of a repository.",
    )
    proxy: Proxy | None = Field(None, description="HTTP proxy between the hosts and the repository.")


class Logs(Declared):
    """Elasticsearch, Logstash and Kibana on hosts with the role logs; Filebeat on all hosts."""

    password: SecretStr | None = Field(
        None,
        description="Secret from which the services' passwords are derived, at least 32 bytes; "
        "required if a host has the role logs.",
    )
    reader_password: SecretStr | None = Field(
        None,
        description="Password of the Kibana login `clawd`, which can only read; when absent, `elastic` is "
        "the only login.",
    )
    kibana_from: tuple[Network, ...] = Field(
        (), description="Networks that may open Kibana; only through SSH forwarding when empty."
    )
    keep_days: Annotated[int, Field(ge=1, le=3650)] = Field(
        30, description="Retention of log lines of bot, engine and nginx, in days."
    )
    audit_days: Annotated[int, Field(ge=190, le=3650)] = Field(
        190, description="Retention of log lines about logins and sudo, in days."
    )
    daily: Size = Field(
        "50M", description="Expected size of the log lines of all hosts per day, for the disk check."
    )
    elasticsearch_heap: Size | None = Field(
        None, description="Java heap of Elasticsearch; a quarter of the host's memory when absent."
    )
    logstash_heap: Size = Field("512M", description="Java heap of Logstash.")
    kibana_heap: Size = Field("512M", description="JavaScript heap of Kibana.")
    packages: ElasticPackages = Field(ElasticPackages(), description="Source of the packages.")
