"""The list of components, from the registry."""

from __future__ import annotations

from deploys.registry import COMPONENTS
from docs.generator.markdown import generated, table

HOW = """
From `deploys/registry.py`, in the order in which a host is built. The page of each has the same five
sections: what it does, settings, example, removal, limits. What each puts on a host is in
[files, units and ports](hosts.md).
"""


def page() -> str:
    """Return the page."""
    rows = (
        (f"[{component.name}](../../deploys/{component.name}/README.md)", component.summary)
        for component in COMPONENTS
    )
    return f"{generated('Components', HOW)}\n{table(('component', 'what'), rows)}"
