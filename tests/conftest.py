"""What all tests here have in common."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# On two cores that hosts keep busy, how long an example takes says nothing of the code.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run asynchronous tests on asyncio, as the programs run."""
    return "asyncio"
