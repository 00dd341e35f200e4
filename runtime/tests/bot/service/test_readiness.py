"""The result of `/readyz` with hanging models and full disks."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from clawd_runtime.bot.service import readiness
from clawd_runtime.bot.service.readiness import Probe, Readiness
from clawd_runtime.bot.store.backends.database import open_database
from clawd_runtime.bot.store.store import Store
from clawd_runtime.errors import StoreError
from tests.bot.postgres import PASSWORD, Server
from tests.bot.program import Program, free_port, model_server
from tests.bot.scripted import message
from tests.standins.serve import serving


async def works() -> bool:
    return True


async def fails() -> bool:
    return False


async def hangs() -> bool:
    await asyncio.sleep(600.0)
    return True


async def breaks() -> bool:
    raise RuntimeError("a bug")


async def writes() -> None:
    return


async def cannot_write() -> None:
    raise StoreError("disk full")


async def hangs_writing() -> None:
    await asyncio.sleep(600.0)


def test_checks_end_within_a_second() -> None:
    """The others here shorten the limit, and their checks that hang would take minutes."""
    assert readiness.WITHIN_SECONDS < 1


Models = list[Callable[[], Awaitable[bool]]]


@pytest.mark.parametrize(
    ("models", "engine"),
    [
        ([works], True),
        ([fails], False),
        ([hangs], False),
        ([breaks], False),
        ([works, hangs], True),
        ([works, fails], True),
        ([fails, works], True),
        ([hangs, works], True),
        ([hangs, hangs], False),
    ],
)
async def test_ready_with_one_responding_model(
    models: Models, engine: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "WITHIN_SECONDS", 0.1)
    assert (await Readiness(writes, lambda: models).checks()) == {"database": True, "engine": engine}


@pytest.mark.parametrize("store", [cannot_write, hangs_writing])
async def test_readonly_database_is_not_ready(
    store: Callable[[], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "WITHIN_SECONDS", 0.1)
    assert (await Readiness(store, lambda: [works]).checks()) == {"database": False, "engine": True}


async def test_repeated_problem_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    checks = Readiness(cannot_write, lambda: [works])
    for _ in range(3):
        await checks.checks()
    assert caplog.text.count("not ready: disk full") == 1


async def test_slow_check_runs_once_and_counts_for_next_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(readiness, "WITHIN_SECONDS", 0.05)
    made = 0

    async def slow() -> bool:
        nonlocal made
        made += 1
        await asyncio.sleep(0.2)
        return True

    checks = Readiness(writes, lambda: [slow])
    answers = [(await checks.checks())["engine"] for _ in range(3)]
    await asyncio.sleep(0.2)
    assert [*answers, (await checks.checks())["engine"]] == [False, False, False, True]
    assert made == 1


async def test_check_result_is_cached() -> None:
    made = 0

    async def count() -> bool:
        nonlocal made
        made += 1
        return made != 2

    probe = Probe(count, keep=0.1, keep_failure=0.0)
    results = [await probe.ask(), await probe.ask()]
    await asyncio.sleep(0.12)
    assert [*results, await probe.ask(), await probe.ask()] == [True, True, False, True]


# --- real disks -----------------------------------------------------------------------------------


@pytest.fixture
def may_mount(request: pytest.FixtureRequest) -> None:
    """Run the test as root: in a user namespace if the user is not root."""
    if os.geteuid() != 0:
        own = ["unshare", "--user", "--map-root-user", "--mount"]
        again = [sys.executable, "-m", "pytest", "-q", request.node.nodeid]
        assert subprocess.run([*own, *again], cwd=request.config.rootpath, check=False).returncode == 0
        pytest.skip("it passed in a user namespace")


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Yield a file system of this size."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> Path:
    """Fill the disk completely."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    assert shutil.disk_usage(folder).free == 0
    return ballast


@pytest.mark.usefixtures("may_mount")
def test_not_ready_on_full_disk_until_space_is_freed(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "8m") as disk, serving(model_server()) as model:
        (disk / "bot").mkdir()
        with Program(disk / "bot", model, {}, {}) as bot:
            bot.start()
            bot.wait_alive()
            assert bot.get("/readyz").status_code == 200
            ballast = fill(disk)
            full = bot.get("/readyz")
            assert (full.status_code, full.json()) == (503, {"database": False, "engine": True})
            assert bot.get("/healthz").status_code == 200
            ballast.unlink()
            assert bot.get("/readyz").status_code == 200
            assert bot.process is not None
            assert bot.process.poll() is None


@pytest.mark.usefixtures("may_mount")
@pytest.mark.parametrize("log_has_room", [False, True])
async def test_full_disk_is_detected_although_wal_has_room(tmp_path: Path, log_has_room: bool) -> None:
    with small_disk(tmp_path / "disk", "24m") as disk:
        database = open_database(f"sqlite:///{disk}/bot.db")
        try:
            store = Store(database)
            await store.join(1, ("scripted",))
            for number in range(40 if log_has_room else 1):
                await store.store(message(str(number), "x" * 150_000))
            await store.heartbeat()
            fill(disk)
            with pytest.raises(StoreError, match=r"are free|full|disk I/O"):
                await store.heartbeat()
        finally:
            database.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="a user namespace has no second user for PostgreSQL")
async def test_not_ready_when_postgresql_disk_is_full() -> None:
    """Its log has room for a small write, and the changed page already exists."""

    with tempfile.TemporaryDirectory() as folder, small_disk(Path(folder) / "disk", "120m") as disk:
        Path(folder).chmod(0o755)  # PostgreSQL runs as nobody
        server = Server(disk, free_port())
        server.start()
        try:
            database = open_database(server.new_database(), PASSWORD)
            try:
                assert database.presence is not None
                store = Store(database)
                await store.join(await (await database.presence()).new_number(), ())
                await store.heartbeat()
                ballast = fill(disk)
                for _ in range(2):
                    with pytest.raises(StoreError, match=r"No space left|connection lost"):
                        await store.heartbeat()
                ballast.unlink()
                await asyncio.sleep(1.1)
                await store.heartbeat()
            finally:
                database.close()
        finally:
            server.stop(signal.SIGQUIT)


async def test_not_ready_with_readonly_postgresql(postgres: Server) -> None:
    """Like a standby after a failover."""
    url = postgres.new_database()

    database = open_database(url, PASSWORD)
    try:
        assert database.presence is not None
        presence = await database.presence()
        store = Store(database)
        await store.join(await presence.new_number(), ())
        await store.heartbeat()
        name = url.rpartition("/")[2]
        with postgres.connect("postgres") as connection:
            connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
            )
        await asyncio.sleep(0.1)
        await store.ping()
        with pytest.raises(StoreError, match="read-only"):
            await store.heartbeat()
    finally:
        database.close()
