"""Read-only checks of the model's file."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from deploys.model.settings import ModelSettings
from deploys.ops.checks import expect, expect_owner
from deploys.ops.facts import PushedFact
from deploys.ops.paths.push import record_of
from deploys.topology.engines import MODELS_FOLDER


def test_there_are_the_declared_models(host: Any, settings: ModelSettings) -> None:
    held, most = ", ".join(models(host)) or "no model", 1 + len(settings.further)
    # Two names may have the same file.
    expect(1 <= len(models(host)) <= most, f"{MODELS_FOLDER} holds {held}, and should hold {most} of them")


def test_content_is_what_the_name_says(host: Any, settings: ModelSettings) -> None:
    for path in models(host):
        digest = digest_of(host, path)
        named = PurePosixPath(path).stem.endswith(f"-{digest[:12]}")
        expect(named, f"{path} is damaged: it has SHA-256 {digest}", "run `up`, which brings it again")
        declared = {settings.sha256, *(one.sha256 for one in settings.further.values())}
        expect(None in declared or digest in declared, f"{path} is not a model that is declared")


def test_the_engine_may_read_it_and_only_root_may_write_it(host: Any) -> None:
    for path in models(host):
        expect_owner(host, path, "root", 0o644, group="root")
        readable = host.run("runuser -u clawd-engine -- test -r %s", path).rc == 0
        expect(readable, f"clawd-engine cannot read {path}: see the modes of the folders above")


def models(host: Any) -> list[str]:
    """Return the GGUF files on the host."""
    listed = host.run("find %s -name '*.gguf'", MODELS_FOLDER)
    return sorted(listed.stdout.splitlines())


def digest_of(host: Any, path: str) -> str:
    """Return the SHA-256 of `path`, which the host computes only when the file changed since its arrival."""
    fact = PushedFact()
    return fact.process(host.check_output(fact.command(path, record_of(path))).splitlines()).sha256
