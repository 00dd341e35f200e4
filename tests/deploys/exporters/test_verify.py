"""The check that exporters refuse clients without a certificate of the project."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from deploys.exporters import verify
from deploys.exporters.exporter import WEB_CONFIG
from deploys.exporters.settings import ExportersSettings
from deploys.ops.checks import CheckFailed


class Host:
    """A testinfra host whose exporter answers a client with the project's certificate, and one without."""

    def __init__(self, known: int, stranger: str) -> None:
        self.known, self.stranger = known, stranger

    def run(self, command: str, *_: str) -> Any:
        asked = command == "python3 -c %s %s"
        return SimpleNamespace(
            rc=0 if asked else self.known,
            stdout=self.stranger if asked else "",
            stderr="connection refused",
        )


def problem_of(monkeypatch: pytest.MonkeyPatch, host: Host) -> str:
    """Return the problem that the check reports; empty when it passes."""
    exporter = SimpleNamespace(package="prometheus-node-exporter", port=9100, reads=(WEB_CONFIG,))
    monkeypatch.setattr(verify, "listed", lambda *_: (exporter,))
    monkeypatch.setattr(verify, "shows", lambda *_: "shows")
    try:
        verify.test_exporters_refuse_clients_without_a_certificate_of_the_project(host, ExportersSettings())
    except CheckFailed as failed:
        return failed.problem
    return ""


def test_exporter_that_does_not_answer_fails_the_check(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem = problem_of(monkeypatch, Host(known=1, stranger="refused\n"))
    assert problem == "prometheus-node-exporter does not report its metrics: connection refused"


def test_exporter_that_answers_clients_without_certificate_fails_the_check(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert problem_of(monkeypatch, Host(known=0, stranger="refused\n")) == ""
    answered = problem_of(monkeypatch, Host(known=0, stranger="200\n"))
    assert answered == "prometheus-node-exporter answers clients without a certificate of the project"
