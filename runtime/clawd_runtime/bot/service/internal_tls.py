"""Mutual TLS between the hosts of a deployment, with certificates of the project's own authority."""

from __future__ import annotations

import ssl
from pathlib import Path

from clawd_runtime.errors import SettingsError

CERTIFICATE, KEY, AUTHORITY = "internal-certificate", "internal-key", "internal-authority"
"""Credentials that the internal listener requires, each a PEM file."""
CREDENTIALS = (CERTIFICATE, KEY, AUTHORITY)


def server_context(directory: Path) -> ssl.SSLContext:
    """Return the context of a server that accepts only clients with a certificate of the project's authority.

    `directory` has the credentials. Raise `SettingsError` if they cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_cert_chain(directory / CERTIFICATE, directory / KEY)
        context.load_verify_locations(directory / AUTHORITY)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"cannot use the internal listener's certificate in {directory}: "
            f"{error.strerror or type(error).__name__}",
            advice="run `clawd-provision up`, which issues a new one",
        ) from None
    return context
