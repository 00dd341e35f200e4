"""The resources of a host that components share, as declared in the inventory or as found on the host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

from inventory.sections.hosts import Host
from inventory.values import size_in_bytes


@dataclass(frozen=True, slots=True)
class Amount:
    """Bytes of a resource, and whether the inventory declares them or the host was found to have them."""

    size: int
    source: Literal["declared", "found"]

    @classmethod
    def declared(cls, text: str | None) -> Self | None:
        """Return the amount of a size such as `8G`; `None` where it is not declared."""
        return cls(size_in_bytes(text), "declared") if text else None

    @classmethod
    def found(cls, size: int) -> Self:
        """Return an amount that the host reports, in bytes."""
        return cls(size, "found")


@dataclass(frozen=True, slots=True)
class HostResources:
    """The memory of a host and of its GPUs; `None` when unknown."""

    memory: Amount | None
    gpu_memory: Amount | None
    """Memory of all GPUs together; also `None` on a host without a GPU."""

    @classmethod
    def declared(cls, host: Host) -> Self:
        """Return the resources that the inventory declares, which is all that is known before SSH."""
        return cls(Amount.declared(host.memory), Amount.declared(host.gpu_memory))
