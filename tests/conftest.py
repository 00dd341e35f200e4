"""What all tests here have in common."""

from __future__ import annotations

import signal

import pytest
from hypothesis import HealthCheck, settings

# On two cores that hosts keep busy, how long an example takes says nothing of the code.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")
# A shell starts programs in the background with this signal ignored, and theirs would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the setting of anyio's plugin where tests run without the plugin, as those on gevent do."""
    if not pluginmanager.hasplugin("anyio"):
        parser.addini("anyio_mode", "not used without anyio's plugin")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run asynchronous tests on asyncio, as the programs run."""
    return "asyncio"
