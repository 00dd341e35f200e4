"""What checks of several components ask a testinfra host."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509

from deploys.ops.services import stamp_of, stamp_path
from deploys.tls.settings import LEAST_DAYS


def runs_as_started(host: Any, unit: str, *, inputs: str = "", watch: Sequence[str] = ()) -> bool:
    """Whether `unit` runs, and what it reads is still what `services.converge` last started it with."""
    watched = [f"{host.file(path).sha256sum}  {path}" for path in watch if host.file(path).is_file]
    stamp = host.file(stamp_path(unit))
    return bool(
        host.service(unit).is_running
        and stamp.is_file
        and stamp.content_string.strip() == stamp_of(inputs, watched)
    )


def ends_soon(host: Any, folder: str) -> str:
    """What there is to say of the certificate in `folder`, which only `up` renews; nothing while it holds."""
    path = f"{folder}/fullchain.pem"
    try:
        end = x509.load_pem_x509_certificate(host.file(path).content).not_valid_after_utc
    except ValueError:
        return f"{path} is no certificate: `up` makes one"
    left = end - datetime.now(UTC)
    if left > timedelta(days=LEAST_DAYS):
        return ""
    return f"{path} {'ends' if left > timedelta() else 'ended'} on {end:%Y-%m-%d}: `up` renews it"
