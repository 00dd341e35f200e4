"""Checks of the exporters, read-only."""

from __future__ import annotations

from typing import Any

from deploys.database.releases import ReleaseFact
from deploys.exporters import certificates, gpu
from deploys.exporters.database import RIGHTS, LoginFact
from deploys.exporters.deploy import has_toolkit, shows
from deploys.exporters.exporter import CERTIFICATE, WEB_CONFIG, Exporter, exporters, needs_certificate
from deploys.exporters.settings import ExportersSettings
from deploys.nvidia.gpus import machine_of
from deploys.ops.checks import ends_soon, runs_as_started


def test_exporters_run_with_what_is_on_the_disk(host: Any, settings: ExportersSettings) -> None:
    for exporter in listed(host, settings):
        assert runs_as_started(host, f"{exporter.package}.service", watch=exporter.watched), (
            f"{exporter.package} does not run, or one of these changed: {', '.join(exporter.watched)}"
        )


def test_exporters_start_at_boot(host: Any, settings: ExportersSettings) -> None:
    names = [exporter.package for exporter in listed(host, settings)]
    assert [name for name in names if not host.service(name).is_enabled] == []


def test_exporters_reach_what_they_measure(host: Any, settings: ExportersSettings) -> None:
    for exporter in listed(host, settings):
        asked = host.run(shows(exporter, settings))
        assert asked.rc == 0, f"{exporter.package}: {asked.stderr.strip().splitlines()[-1:]}"


def test_exporters_listen_where_they_should(host: Any, settings: ExportersSettings) -> None:
    for exporter in listed(host, settings):
        listening = host.check_output("ss -Hltn sport = :%s", str(exporter.port)).splitlines()
        places = {line.split()[3].rpartition(":")[0] for line in listening}
        local = settings.listen == "127.0.0.1" or exporter.package == "prometheus-blackbox-exporter"
        assert places == ({"127.0.0.1"} if local else {"*"}), f"{exporter.package} listens on {places}"


def test_exporters_refuse_clients_without_a_certificate_of_the_project(
    host: Any, settings: ExportersSettings
) -> None:
    for exporter in listed(host, settings):
        if WEB_CONFIG in exporter.reads:
            answer = host.run("python3 -c %s %s", ASK_AS_STRANGER, str(exporter.port))
            assert answer.stdout.strip() == "refused", f"{exporter.package} answers strangers"


def test_certificate_does_not_end_soon(host: Any, settings: ExportersSettings) -> None:
    if needs_certificate(settings):
        assert not (told := ends_soon(host, CERTIFICATE)), told


def test_ends_of_certificates_are_told(host: Any) -> None:
    assert runs_as_started(host, certificates.TIMER, watch=certificates.FILES)
    age = int(host.check_output("echo $(($(date +%%s) - $(stat -c %%Y %s)))", certificates.OUTPUT))
    assert age < 2 * 3600, f"{certificates.OUTPUT} was written {age} s ago"


def test_the_database_login_has_no_more_rights_than_it_needs(host: Any, settings: ExportersSettings) -> None:
    if settings.database:
        fact = LoginFact()
        state = fact.process(host.run(fact.command()).stdout.splitlines())
        assert state.rights == RIGHTS


def test_gpus_are_measured(host: Any, settings: ExportersSettings) -> None:
    if not machine_of(host, settings.root).gpus:
        assert not host.file(gpu.PROGRAM).exists, "GPUs are measured on a host that has none"
        return
    assert runs_as_started(host, gpu.TIMER, watch=gpu.FILES)
    age = int(host.check_output("echo $(($(date +%%s) - $(stat -c %%Y %s)))", gpu.OUTPUT))
    assert age < 120, f"{gpu.OUTPUT} was written {age} s ago"
    assert "clawd_gpu_up 1" in host.file(gpu.OUTPUT).content_string, "nvidia-smi does not answer"


def listed(host: Any, settings: ExportersSettings) -> tuple[Exporter, ...]:
    """Return the exporters of this host, as its release has them."""
    fact = ReleaseFact()
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
