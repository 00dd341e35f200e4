"""The certificate of nginx, as declared."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from inventory.declared import Declared


class Tls(Declared):
    """The certificate of nginx."""

    mode: Literal["own-ca", "self-signed"] = Field(
        "own-ca", description="Signed by the project's own authority, or by itself."
    )
    names: tuple[str, ...] = Field(
        (), description="Names and addresses in the certificate; the host's address when empty."
    )
    lifetime_days: Annotated[int, Field(ge=1, le=825)] = Field(90, description="Of a certificate.")
    renew_fraction: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.33, description="Renewed when less than this part of the lifetime is left."
    )
