"""Checks of the model's file, read-only."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from deploys.model.settings import MODELS_FOLDER, ModelSettings
from deploys.ops.facts import PushedFact
from deploys.ops.push import record_of


def test_there_is_one_model(host: Any) -> None:
    assert len(models(host)) == 1, f"{MODELS_FOLDER} holds: {', '.join(models(host)) or 'nothing'}"


def test_content_is_what_the_name_says(host: Any, settings: ModelSettings) -> None:
    for path in models(host):
        digest = digest_of(host, path)
        assert PurePosixPath(path).stem.endswith(f"-{digest[:12]}"), f"{path} has SHA-256 {digest}"
        assert settings.sha256 in (None, digest), f"{path} is not the model that is declared"


def test_the_engine_may_read_it_and_only_root_may_write_it(host: Any) -> None:
    for path in models(host):
        file = host.file(path)
        assert (file.user, file.group, file.mode) == ("root", "root", 0o644), path
        assert host.run("runuser -u clawd-engine -- test -r %s", path).rc == 0, path


def models(host: Any) -> list[str]:
    """The GGUF files that are there."""
    listed = host.run("find %s -name '*.gguf'", MODELS_FOLDER)
    return sorted(listed.stdout.splitlines())


def digest_of(host: Any, path: str) -> str:
    """The SHA-256 of `path`, which the host computes only when the file changed since it came."""
    fact = PushedFact()
    return fact.process(host.check_output(fact.command(path, record_of(path))).splitlines()).sha256
