"""The section `base` of an inventory."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from inventory.types import (
    Declared,
    OperatorName,
    PackageName,
    Port,
    PublicKey,
    RepositoryUrl,
    Size,
    TimeZone,
)


class Operator(Declared):
    """A login with sudo on every host, for a person or a team."""

    name: OperatorName = Field(description="Login name.")
    keys: tuple[PublicKey, ...] = Field(min_length=1, description="SSH public keys of the login.")


class Base(Declared):
    """Settings of every host: packages, logins, clock, journal, sshd."""

    time_zone: TimeZone = Field("Etc/UTC", description="IANA name of the time zone, such as Asia/Shanghai.")
    packages: tuple[PackageName, ...] = Field((), description="Additional Debian packages.")
    upgrade: Literal["never", "security", "all"] = Field(
        "security", description="Updates of the distribution's packages that `up` installs."
    )
    mirrors: tuple[RepositoryUrl, ...] = Field(
        (),
        description="Package mirrors in private networks that hosts without internet access may reach "
        "through the laptop; public mirrors of their apt sources need no entry.",
    )
    operators: tuple[Operator, ...] = Field((), description="Logins with sudo for people.")
    journal_max: Size = Field("500M", description="Maximum disk space of the systemd journal.")
    ssh_port: Port | None = Field(
        None, description="Additional port on which sshd listens; only the current one when absent."
    )
