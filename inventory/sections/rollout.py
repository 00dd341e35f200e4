"""The section `rollout` of an inventory."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from inventory.types import Declared


class Rollout(Declared):
    """How a change is rolled out to several runtime hosts, batch by batch."""

    batch_percent: Annotated[int, Field(ge=1, le=100)] = Field(
        25, description="Share of the runtime hosts in a batch, in percent; at least one host."
    )
    drain_seconds: Annotated[int, Field(ge=0, le=600)] = Field(
        30, description="Maximum wait for requests in progress before a host is changed, in seconds."
    )
