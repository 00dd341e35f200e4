"""What all tests here have in common."""

from __future__ import annotations

import resource

from hypothesis import HealthCheck, settings

# A login has 1024 files, of which two thousand tests with hosts' connections need more in one process.
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

# On two cores that hosts keep busy, how long an example takes says nothing of the code.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")
