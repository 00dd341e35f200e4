"""The authority's certificate where programs look for it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deploys.tls.deploy import trusted
from tests.deploys.harness import Machine, Run

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the file belongs to root")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def put(folder: Path, *, execute: bool = True) -> Run:
    data = {"supplies": {"state_folder": str(folder / "state")}}
    path = str(folder / "etc" / "authority.pem")
    return Machine(data).run(lambda: trusted("team", path=path), execute=execute)


def test_plan_writes_nothing(folder: Path) -> None:
    run = put(folder, execute=False)
    assert run.predicted
    assert run.changes[0].diff == ("of the new authority",)
    assert list(folder.iterdir()) == []


def test_trusted_certificate_is_written_once_and_again_when_changed(folder: Path) -> None:
    file, authority = folder / "etc" / "authority.pem", folder / "state" / "ca" / "ca.pem"
    first = put(folder)
    assert first.succeeded, first.output
    assert file.read_bytes() == authority.read_bytes()
    assert not put(folder).changed
    for damage in (lambda: file.write_text("another's\n"), lambda: file.chmod(0o600), file.unlink):
        damage()
        assert put(folder).changed
        assert file.read_bytes() == authority.read_bytes()
        assert file.stat().st_mode & 0o777 == 0o644
    assert list(file.parent.iterdir()) == [file]
