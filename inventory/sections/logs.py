"""Logs, as declared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr

from inventory.declared import Declared, Network, Proxy, Repository, Size

ELASTIC_REPOSITORY = "https://artifacts.elastic.co/packages/9.x/apt"
ELASTIC_FINGERPRINT = "46095ACC8548582C1A2699A9D27D666CD88E42B4"
"""Of the key that signs Elastic's packages: https://www.elastic.co/docs/deploy-manage/deploy/self-managed."""


class ElasticPackages(Declared):
    """Where Elastic's packages come from."""

    version: str = Field(
        "9.4.9", pattern=r"^9\.[0-9]+\.[0-9]+$", description="Of all four programs, on all hosts."
    )
    mirror: Repository = Field(
        ELASTIC_REPOSITORY, description="Repository for apt: Elastic's, or a copy of it."
    )
    key: Path | None = Field(
        None, description="File with the repository's key; the laptop fetches Elastic's when absent."
    )
    fingerprint: str = Field(
        ELASTIC_FINGERPRINT,
        pattern=r"^[0-9A-F]{40}$",
        description="The key must have this one; another only for a repository signed by yourself.",
    )
    folder: Path | None = Field(
        None, description="Folder on the laptop with the .deb files, which are pushed; no repository then."
    )
    proxy: Proxy | None = Field(None, description="HTTP proxy between the hosts and the repository.")


class Logs(Declared):
    """Elasticsearch, Logstash and Kibana on hosts with the role logs; Filebeat on all."""

    password: SecretStr | None = Field(
        None,
        description="At least 32 bytes; the services' own passwords are derived from it. "
        "Required with a host that has the role logs.",
    )
    reader_password: SecretStr | None = Field(
        None, description="Of `clawd`, who reads in Kibana; nobody but `elastic` signs in when absent."
    )
    kibana_from: tuple[Network, ...] = Field(
        (), description="Networks whose browsers may open Kibana; SSH's forwarding only when empty."
    )
    keep_days: Annotated[int, Field(ge=1, le=3650)] = Field(
        30, description="Days that lines of bot, engine and nginx are kept."
    )
    audit_days: Annotated[int, Field(ge=190, le=3650)] = Field(
        190, description="Days that lines about logins and commands with rights of root are kept."
    )
    daily: Size = Field("50M", description="Lines of all hosts a day, to reckon the disk with.")
    elasticsearch_heap: Size | None = Field(
        None, description="Java heap of Elasticsearch; a quarter of the host's memory when absent."
    )
    logstash_heap: Size = Field("512M", description="Java heap of Logstash.")
    kibana_heap: Size = Field("512M", description="Heap of Kibana.")
    packages: ElasticPackages = Field(ElasticPackages(), description="Where the programs come from.")
