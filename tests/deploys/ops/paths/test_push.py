"""Large files over a connection that breaks, from a server that breaks off, and archives."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from deploys.ops.diff import expected
from deploys.ops.paths import push
from deploys.ops.paths.stream import PIECE, part_of
from deploys.ops.run_state import run_state
from tests.deploys.harness import OWN, Line, Machine, Run

pytestmark = pytest.mark.slow

CONTENT = bytes(range(256)) * 4096 * 3  # 3 MiB, 12 pieces
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(push, "RECORDS", str(tmp_path / "records"))
    return tmp_path / "records"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    (tmp_path / "host").mkdir()
    return tmp_path / "host" / "model.gguf"


def pushed(source: Path, dest: Path, line: Line | None = None, digest: str = DIGEST, **ownership: Any) -> Run:
    owned = {**OWN, **ownership}
    return Machine(ssh=line or Line()).run(lambda: push.file(source, str(dest), sha256=digest, **owned))


def test_push_sends_a_file_once(source: Path, dest: Path) -> None:
    line = Line()
    run = pushed(source, dest, line)
    assert run.succeeded, run.output
    assert run.predicted
    assert dest.read_bytes() == CONTENT
    assert line.sent == len(CONTENT)
    assert [item.name for item in dest.parent.iterdir()] == ["model.gguf"]
    again = pushed(source, dest)
    assert not again.predicted
    assert not again.changed


def test_forgetting_a_folder_deletes_its_push_records(source: Path, dest: Path, records: Path) -> None:
    pushed(source, dest)
    other = dest.with_name("other")
    other.mkdir()
    pushed(source, other / "model.gguf")
    run = Machine().run(lambda: push.forgotten(str(other)))
    assert run.predicted
    assert [record.read_text().splitlines()[1] for record in records.iterdir()] == [str(dest)]
    assert not Machine().run(lambda: push.forgotten(str(other))).predicted
    assert not pushed(source, dest).predicted
    assert Machine().run(lambda: push.forgotten(str(dest.parent))).succeeded
    assert not records.exists()


def test_interrupted_push_continues_at_its_offset(source: Path, dest: Path) -> None:
    first = pushed(source, dest, Line(breaks_after=5 * PIECE))
    assert not first.succeeded
    assert "the next run continues" in first.output
    assert not dest.exists()
    line = Line()
    assert pushed(source, dest, line).succeeded
    assert dest.read_bytes() == CONTENT
    assert line.sent == len(CONTENT) - 5 * PIECE


@pytest.mark.parametrize("left", [b"something else" * 9999, CONTENT + b"longer", CONTENT[:-1] + b"x", b""])
def test_part_with_other_content_is_sent_again(source: Path, dest: Path, left: bytes) -> None:
    Path(part_of(str(dest), DIGEST)).write_bytes(left)
    line = Line()
    assert pushed(source, dest, line).succeeded
    assert dest.read_bytes() == CONTENT
    assert line.sent == len(CONTENT)


def test_corrupt_file_does_not_go_live(source: Path, dest: Path) -> None:
    dest.write_bytes(b"old")
    source.write_bytes(CONTENT[:-1] + b"!")
    run = pushed(source, dest)
    assert not run.succeeded
    assert "expected " + DIGEST in run.output
    assert dest.read_bytes() == b"old"
    assert [item.name for item in dest.parent.iterdir()] == ["model.gguf"]


def test_file_changed_on_the_host_is_replaced(source: Path, dest: Path) -> None:
    pushed(source, dest)
    before = dest.stat()
    dest.write_bytes(CONTENT[:-1] + b"!")
    os.utime(dest, ns=(before.st_atime_ns, before.st_mtime_ns))  # as a careless copy would
    run = pushed(source, dest)
    assert run.predicted
    assert run.succeeded
    assert dest.read_bytes() == CONTENT


def test_plan_predicts_the_restart_of_services_using_the_file(source: Path, dest: Path) -> None:
    """By the plan of the run that pushes it again, not only once it is there."""
    pushed(source, dest)
    dest.write_bytes(b"damaged")
    restarts: list[bool] = []

    def operations() -> None:
        from pyinfra import host

        push.file(source, str(dest), sha256=DIGEST, **OWN)
        restarts.append(expected(host, push.record_of(str(dest))))

    Machine(ssh=Line()).run(operations, execute=False)
    assert restarts == [True]
    pushed(source, dest)
    Machine(ssh=Line()).run(operations, execute=False)
    assert restarts == [True, False]


def test_file_goes_live_only_after_sync(
    source: Path, dest: Path, records: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = dest.parent.parent / "bin"
    programs.mkdir()
    (programs / "sync").write_text('#!/bin/sh\necho "no disk for $1" >&2\nexit 1\n')
    (programs / "sync").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    dest.write_bytes(b"old")
    run = pushed(source, dest)
    assert not run.succeeded
    assert f"no disk for {part_of(str(dest), DIGEST)}" in run.output
    assert dest.read_bytes() == b"old"
    assert not records.exists()


def test_changed_owner_or_mode_sends_nothing(source: Path, dest: Path) -> None:
    pushed(source, dest)
    line = Line()
    run = pushed(source, dest, line, mode="0600")
    assert run.changes[0].diff == ("mode 0644 → 0600",)
    assert line.sent == 0
    assert dest.stat().st_mode & 0o777 == 0o600
    assert not pushed(source, dest, mode="0600").predicted


def test_push_without_ssh_fails_with_the_reason(source: Path, dest: Path) -> None:
    run = Machine().run(lambda: push.file(source, str(dest), sha256=DIGEST, **OWN))
    assert not run.succeeded
    assert "over SSH" in run.output


def test_error_of_the_host_is_reported(source: Path, tmp_path: Path) -> None:
    run = pushed(source, tmp_path / "missing" / "model.gguf")
    assert not run.succeeded
    assert "missing/model.gguf" in run.output


def test_progress_of_a_push_is_reported(source: Path, dest: Path) -> None:
    reported: list[tuple[int, int]] = []
    machine = Machine(ssh=Line())

    def operations() -> None:
        from pyinfra import host

        run_state(host).report_push_progress = lambda _dest, sent, total: reported.append((sent, total))
        push.file(source, str(dest), sha256=DIGEST, **OWN)

    machine.run(operations)
    assert reported[0] == (PIECE, len(CONTENT))
    assert reported[-1] == (len(CONTENT), len(CONTENT))


class Server(BaseHTTPRequestHandler):
    """Serves CONTENT with ranges; the first answers break off in the middle."""

    breaks = 0
    ranges: list[str | None] = []  # noqa: RUF012

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        Server.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if "missing" in self.path:
            self.send_error(404)
            return
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        body = CONTENT[start:]
        if Server.breaks:
            Server.breaks -= 1
            body = body[: len(body) // 2]
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Server.breaks, Server.ranges = 0, []
    with HTTPServer(("127.0.0.1", 0), Server) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/model?token=hidden"
        running.shutdown()


def fetched(url: str, dest: Path) -> Run:
    return Machine().run(lambda: push.fetch(url, str(dest), sha256=DIGEST, **OWN))


def test_host_fetches_a_file_through_interruptions(server: str, dest: Path) -> None:
    Server.breaks = 2
    run = fetched(server, dest)
    assert run.succeeded, run.output
    assert dest.read_bytes() == CONTENT
    assert Server.ranges == [None, f"bytes={len(CONTENT) // 2}-", f"bytes={len(CONTENT) * 3 // 4}-"]
    assert not any("hidden" in repr(command) + command.get_raw_value() for command in run.commands)
    assert not fetched(server, dest).predicted


def test_failed_fetch_reports_the_status_of_the_server(server: str, dest: Path) -> None:
    run = fetched(server.replace("model", "missing"), dest)
    assert not run.succeeded
    assert "the server answers 404" in run.output


def archive(path: Path, files: dict[str, str]) -> str:
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text), 0o644
            tar.addfile(entry, io.BytesIO(text.encode()))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_archive_is_unpacked_and_compiled_once(tmp_path: Path) -> None:
    source, dest = tmp_path / "release.tar.gz", tmp_path / "releases" / "1"
    dest.parent.mkdir()
    digest = archive(source, {"site-packages/a.py": "x = 1\n", "site-packages/bad.py": "def\n"})
    unpack = lambda: push.unpack(source, str(dest), sha256=digest, content="c1")  # noqa: E731
    run = Machine(ssh=Line()).run(unpack)
    assert run.succeeded, run.output
    assert (dest / "site-packages" / "a.py").read_text() == "x = 1\n"
    assert list((dest / "site-packages" / "__pycache__").glob("a.*.pyc"))
    assert [item.name for item in dest.parent.iterdir()] == ["1"]
    assert not Machine(ssh=Line()).run(unpack).predicted


def test_folder_stays_when_another_archive_has_the_same_content(tmp_path: Path) -> None:
    dest, line = tmp_path / "1", Line()
    for name, content, brought in (("one", "c1", True), ("two", "c1", False), ("three", "c2", True)):
        digest = archive(tmp_path / name, {"a": name})
        run = Machine(ssh=line).run(
            lambda: push.unpack(tmp_path / name, str(dest), sha256=digest, content=content)  # noqa: B023
        )
        assert run.succeeded, run.output
        assert run.predicted is brought
    assert (dest / "a").read_text() == "three"
    assert (dest / push.MARKER).read_text() == "c2\n"
    assert line.sent == sum((tmp_path / name).stat().st_size for name in ("one", "three"))


def test_archive_that_was_cut_off_continues_and_is_verified_before_it_is_unpacked(tmp_path: Path) -> None:
    source, dest = tmp_path / "release.tar.gz", tmp_path / "1"
    digest = archive(source, {"a": os.urandom(3 * PIECE).hex()})
    unpack = lambda: push.unpack(source, str(dest), sha256=digest, content="c1")  # noqa: E731
    assert not Machine(ssh=Line(breaks_after=2 * PIECE)).run(unpack).succeeded
    assert not dest.exists()
    line = Line()
    assert Machine(ssh=line).run(unpack).succeeded
    assert line.sent == source.stat().st_size - 2 * PIECE
    assert (dest / "a").is_file()


def test_folder_goes_live_only_after_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, dest, programs = tmp_path / "release.tar.gz", tmp_path / "1", tmp_path / "bin"
    before = archive(source, {"a": "1"})
    Machine(ssh=Line()).run(lambda: push.unpack(source, str(dest), sha256=before, content="c1"))
    programs.mkdir()
    (programs / "sync").write_text(f'#!/bin/sh\nls -A "$2" > {tmp_path}/synced\necho no disk >&2\nexit 1\n')
    (programs / "sync").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    after = archive(source, {"a": "2", "b": "2"})
    run = Machine(ssh=Line()).run(lambda: push.unpack(source, str(dest), sha256=after, content="c2"))
    assert not run.succeeded
    assert "no disk" in run.output
    assert (tmp_path / "synced").read_text().split() == [".files.sha256", ".sha256", "a", "b"]
    assert (dest / "a").read_text() == "1"


def test_damaged_archive_does_not_change_the_folder(tmp_path: Path) -> None:
    source, dest = tmp_path / "release.tar.gz", tmp_path / "1"
    good = archive(source, {"a": "1"})
    Machine(ssh=Line()).run(lambda: push.unpack(source, str(dest), sha256=good, content="c1"))
    source.write_bytes(b"no archive at all")
    damaged = hashlib.sha256(b"no archive at all").hexdigest()
    wrong = Machine(ssh=Line()).run(lambda: push.unpack(source, str(dest), sha256=good[::-1], content="c2"))
    no_archive = Machine(ssh=Line()).run(lambda: push.unpack(source, str(dest), sha256=damaged, content="c2"))
    assert not wrong.succeeded
    assert not no_archive.succeeded
    assert (dest / "a").read_text() == "1"
    assert not (tmp_path / "1.new").exists()
