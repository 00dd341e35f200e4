"""One deployment for all end-to-end tests: two fresh hosts (Debian 12 and 13) and the stand-ins."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision import sandbox
from tests.e2e import watcher
from tests.e2e.deployment import World, layout_for_tests
from tests.marks import mark_below
from tests.platforms import feishu_at, telegram_at
from tests.standins.control import Control
from tests.standins.outbound import Reach


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test here: it needs hosts, and may take as long as a deployment."""
    mark_below(__file__, items, pytest.mark.host, pytest.mark.timeout(1500))


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Start two bare hosts, with an empty folder of the operator."""
    model = os.environ.get("CLAWD_TEST_MODEL", "")
    if not Path(model).is_file():
        pytest.fail("set CLAWD_TEST_MODEL to a GGUF chat model; `make test` does")
    folder = tmp_path_factory.mktemp("operator")
    with World(folder, layout_for_tests(folder / "sandbox")).fresh() as made:
        yield made


@pytest.fixture(scope="session")
def telegram(world: World) -> Iterator[Control]:
    """Serve the Telegram stand-in where the hosts reach it."""
    with telegram_at(world.here, world.secret("telegram-token")) as control:
        yield control


@pytest.fixture(scope="session")
def feishu(world: World) -> Iterator[Control]:
    """Serve the Feishu stand-in where the hosts reach it; it trusts the deployment's authority."""
    with feishu_at(world.here, world.feishu_app, Reach(ca=world.authority)) as control:
        yield control


@pytest.fixture(scope="session")
def deployed(world: World, telegram: Control, feishu: Control) -> World:
    """Return the hosts after an interrupted first run, the run that completed it, and one more.

    What these runs said is in `records`; during them an unprivileged user looked for secrets on bot1.
    """
    world.inventory()
    world.records["bare"] = world.look("bot2")
    watching = _start_watching(world, "bot1")
    world.records["interrupted"] = world.interrupted(
        "up", "-i", "e2e", "--yes", "--verbose", at="bot1: base:"
    )
    world.records["first"] = world.run("up", "-i", "e2e", "--yes", "--json")
    world.records["plan after"] = world.run("plan", "-i", "e2e", "--json")
    world.records["second"] = world.run("up", "-i", "e2e", "--yes", "--json")
    world.on("bot1", "touch /tmp/clawd-watch-stop")
    world.records["seen"], _ = watching.communicate(timeout=60)
    first = world.records["first"]
    assert first.returncode == 0, (
        f"the deployment failed\n{first.stderr[-6000:]}\n{failed_checks(first.stdout)}"
    )
    return world


def failed_checks(printed: str) -> str:
    """Return what a run that prints JSON says of checks that failed; else the end of what it printed."""
    try:
        checks = json.loads(printed)["verification"]["checks"]
    except (ValueError, KeyError, TypeError):
        return printed[-2000:]
    return json.dumps([check for check in checks if check["outcome"] != "passed"], indent=1)


def _start_watching(world: World, host: str) -> subprocess.Popen[str]:
    script = Path(watcher.__file__).read_text(encoding="utf-8")
    world.on(host, "install -m 755 /dev/null /usr/local/bin/clawd-watch")
    ssh = sandbox.ssh_command(host, layout=world.layout)
    subprocess.run(
        [*ssh, "sudo", "tee", "/usr/local/bin/clawd-watch"],
        input=script, text=True, check=True, stdout=subprocess.DEVNULL, timeout=30,
    )  # fmt: skip
    process = subprocess.Popen(
        [*ssh, "sudo", "-u", "nobody", "python3", "/usr/local/bin/clawd-watch"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    assert process.stdout
    process.stdin.write("\n".join(world.secrets.values()) + "\n\n")
    process.stdin.flush()
    assert process.stdout.readline() == "watching\n"
    return process
