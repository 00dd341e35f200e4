"""Elasticsearch's keystore, the only place for the password of `elastic` before the first start."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from pydantic import SecretStr
from pyinfra import host
from pyinfra.api import StringCommand
from pyinfra.api.operation import OperationMeta

from deploys.ops.diff import NOT_SHOWN, operation, record
from deploys.ops.facts import LineFact
from deploys.ops.programs import program
from deploys.ops.run_state import Change
from deploys.ops.shell import assignments, framed, script

KEYSTORE = "/etc/elasticsearch/elasticsearch.keystore"
TOOL = "/usr/share/elasticsearch/bin/elasticsearch-keystore"
RECORD = "/var/lib/clawd/state/elasticsearch-keystore"
"""root's record: a digest of the password in the keystore, and of the keystore as it was then."""


class KeystoreFact(LineFact):
    """The digest of the password in the keystore; empty when the file was changed by others since."""

    def command(self) -> str:
        """Return a script that compares the keystore with its record."""
        return assignments(keystore=KEYSTORE, record=RECORD) + _RECORDED


_RECORDED = r"""
read -r digest file 2>/dev/null < "$record" || exit 0
owned=$(stat -c '%U:%G %a' "$keystore" 2>/dev/null)
[ "$owned" = "root:elasticsearch 660" ] || exit 0
[ "$(sha256sum < "$keystore" | cut -c1-64)" != "$file" ] || echo "$digest"
"""


def bootstrap_password(password: SecretStr, **arguments: Any) -> OperationMeta:
    """Give `elastic` this password from the first start on, without a call of the API.

    It is valid as long as no password was set through the API, and a new one is read only at a restart: pass
    `KEYSTORE` to the service's `watch`.
    """
    return _bootstrap_password(password, name="Password of elastic", **arguments)


@operation
def _bootstrap_password(password: SecretStr) -> Iterator[StringCommand]:
    secret = password.get_secret_value().encode()
    digest = sha256(b"keystore" + secret).hexdigest()
    if host.get_fact(KeystoreFact) == digest:
        return
    record(Change(KEYSTORE, (NOT_SHOWN,), secret=True))
    yield script(
        _GIVE,
        stdin=framed(secret),
        keystore=KEYSTORE,
        tool=TOOL,
        record=RECORD,
        value=digest,
    )


_GIVE = program("deploys/elasticsearch/scripts/give_password.sh")
