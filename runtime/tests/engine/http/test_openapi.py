"""The OpenAPI document against the API itself, by schemathesis, which is installed apart from this project.

`CLAWD_TEST_SCHEMATHESIS` is the path of its program `st` (4.32 or later).
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from pathlib import Path

import pytest
import uvicorn

from clawd_runtime.engine.batching.computer import Opened
from clawd_runtime.engine.http.api import create_app
from clawd_runtime.engine.http.listen import tcp_socket
from clawd_runtime.engine.service import Engine

# A body that is too large is refused as such, although the schema forbids it, too.
CONFIGURATION = """
[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 408, 413, 415, 429, "5xx"]

# Whether a grammar, a schema or a message's length is valid is more than a schema can say.
[checks.positive_data_acceptance]
enabled = false
"""


@pytest.fixture
def address(settings, fake_model, model_path):
    """Serve the model without weights, and grammars with the real vocabulary."""
    changes = {
        "model": str(model_path),
        "context_size": 4096,
        "parallel": 8,
        "queue": 64,
        "embeddings": True,
    }
    model = fake_model(parallel=8, context_size=4096, capacity=256)
    engine = Engine(
        settings.model_copy(update=changes),
        on_fault=lambda fault: None,
        open_model=lambda _: Opened(model, "none", 1),
    )
    engine.load()
    with tcp_socket("127.0.0.1", 0) as listener:
        server = uvicorn.Server(uvicorn.Config(create_app(engine), log_config=None, lifespan="off"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield "http://{}:{}".format(*listener.getsockname())
        server.should_exit = True
        thread.join()
    engine.close()


@pytest.mark.model
@pytest.mark.campaign
@pytest.mark.timeout(1800)
def test_schemathesis_finds_nothing(address: str, tmp_path: Path) -> None:
    program = os.environ.get("CLAWD_TEST_SCHEMATHESIS")
    if not program:
        pytest.skip("set CLAWD_TEST_SCHEMATHESIS to the program `st` of schemathesis")
    (tmp_path / "schemathesis.toml").write_text(CONFIGURATION)
    done = subprocess.run(
        [
            program,
            "run",
            f"{address}/openapi.json",
            "--max-examples",
            "40",
            "--continue-on-failure",
            "--no-color",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]
    assert "9 selected / 9 total" in done.stdout
