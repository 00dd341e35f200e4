"""Checks of the exporters, read-only."""

from __future__ import annotations

from typing import Any

from deploys.exporters import certificates, gpu
from deploys.exporters.database import RIGHTS, ExporterLoginFact
from deploys.exporters.deploy import has_toolkit, shows
from deploys.exporters.exporter import CERTIFICATE, WEB_CONFIG, Exporter, exporters, needs_certificate
from deploys.exporters.settings import ExportersSettings
from deploys.nvidia.gpus import machine_of
from deploys.ops.checks import (
    expect,
    expect_at_boot,
    expect_certificate,
    expect_listening,
    expect_started_with,
    expect_timer,
    said,
)
from deploys.ops.facts import OsReleaseFact


def test_exporters_run_with_what_is_on_the_disk(host: Any, settings: ExportersSettings) -> None:
    for exporter in listed(host, settings):
        expect_started_with(host, f"{exporter.package}.service", watch=exporter.watched, at_boot=False)


def test_exporters_start_at_boot(host: Any, settings: ExportersSettings) -> None:
    for exporter in listed(host, settings):
        expect_at_boot(host, f"{exporter.package}.service")


def test_exporters_reach_what_they_measure(host: Any, settings: ExportersSettings) -> None:
    for exporter in listed(host, settings):
        result = host.run(shows(exporter, settings))
        log = f"read `journalctl -u {exporter.package}` on the host"
        expect(result.rc == 0, f"{exporter.package} does not report its metrics: {said(result)}", log)


def test_exporters_listen_where_they_should(host: Any, settings: ExportersSettings) -> None:
    for exporter in listed(host, settings):
        local = settings.listen == "127.0.0.1" or exporter.package == "prometheus-blackbox-exporter"
        expect_listening(host, exporter.port, {"127.0.0.1"} if local else {"*"}, exporter.package)


def test_exporters_refuse_clients_without_a_certificate_of_the_project(
    host: Any, settings: ExportersSettings
) -> None:
    for exporter in listed(host, settings):
        if WEB_CONFIG in exporter.reads:
            # Only an exporter that answers others refuses this client for its lack of a certificate.
            known = host.run(shows(exporter, settings))
            expect(known.rc == 0, f"{exporter.package} does not report its metrics: {said(known)}")
            answer = host.run("python3 -c %s %s", ASK_AS_STRANGER, str(exporter.port))
            refused = answer.stdout.strip() == "refused"
            expect(refused, f"{exporter.package} answers clients without a certificate of the project")


def test_certificate_does_not_end_soon(host: Any, settings: ExportersSettings) -> None:
    if needs_certificate(settings):
        expect_certificate(host, CERTIFICATE)


def test_certificate_expiry_is_reported(host: Any) -> None:
    expect_timer(host, certificates.TIMER, hours=2, watch=certificates.FILES)
    age = int(host.check_output("echo $(($(date +%%s) - $(stat -c %%Y %s)))", certificates.OUTPUT))
    expect(age < 2 * 3600, f"{certificates.OUTPUT} was written {age} s ago, and should be every hour")


def test_the_database_login_has_no_more_rights_than_it_needs(host: Any, settings: ExportersSettings) -> None:
    if settings.database:
        fact = ExporterLoginFact()
        state = fact.process(host.run(fact.command()).stdout.splitlines())
        expect(state.rights == RIGHTS, "the exporter's login has other rights in PostgreSQL than declared")


def test_gpus_are_measured(host: Any, settings: ExportersSettings) -> None:
    if not machine_of(host, settings.root).gpus:
        expect(not host.file(gpu.PROGRAM).exists, "GPUs are measured on a host that has none")
        return
    expect_timer(host, gpu.TIMER, hours=1, watch=gpu.FILES)
    age = int(host.check_output("echo $(($(date +%%s) - $(stat -c %%Y %s)))", gpu.OUTPUT))
    expect(age < 120, f"{gpu.OUTPUT} was written {age} s ago, and should be every half minute")
    expect("clawd_gpu_up 1" in host.file(gpu.OUTPUT).content_string, "nvidia-smi does not answer")


def listed(host: Any, settings: ExportersSettings) -> tuple[Exporter, ...]:
    """Return the exporters of this host, as its release has them."""
    fact = OsReleaseFact()
    release = fact.process(host.check_output(fact.command()).splitlines())
    return exporters(settings, toolkit=has_toolkit(release))


ASK_AS_STRANGER = """
import ssl, sys, urllib.error, urllib.request
try:
    url = "https://127.0.0.1:%s/metrics" % sys.argv[1]
    print(urllib.request.urlopen(url, timeout=5, context=ssl._create_unverified_context()).status)
except (OSError, urllib.error.URLError):
    print("refused")
"""
