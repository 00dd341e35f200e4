"""Install Prometheus: Debian's package with configuration and rules that promtool has accepted."""

from __future__ import annotations

from pyinfra.api import deploy

from deploys.exporters.exporter import ACCOUNT, defaults_text
from deploys.ops import services, units
from deploys.ops.debian import packages
from deploys.ops.paths import data, files
from deploys.ops.removal import removal
from deploys.ops.services import Service
from deploys.prometheus.config import CONFIG, DATA, RULES, arguments, config
from deploys.prometheus.rules import rules, rules_text
from deploys.prometheus.settings import PrometheusSettings
from deploys.settings import settings_of
from deploys.topology.monitoring import PROMETHEUS_PORT

UNIT = "prometheus"
DEFAULTS = f"/etc/default/{UNIT}"
DROP_IN = f"/etc/systemd/system/{UNIT}.service.d/clawd.conf"
READS = (DEFAULTS, DROP_IN, CONFIG, RULES)


@deploy("Prometheus")
def apply() -> None:
    """Install Prometheus, scraping every target and evaluating every rule."""
    settings = settings_of("prometheus", PrometheusSettings)
    files.put(DEFAULTS, defaults_text(arguments(settings)))
    files.directory(DROP_IN.rsplit("/", 1)[0])
    files.template("prometheus/service.conf", DROP_IN, {})
    packages.installed("prometheus", component="prometheus")
    files.directory(DATA, owner=ACCOUNT, group=ACCOUNT, mode="0750")
    text = rules_text(rules(settings), settings.evaluation_interval)
    files.put(RULES, text, check="promtool check rules {}")
    files.put(CONFIG, config(settings), check="promtool check config {}")
    services.converge(Service(UNIT, watch=READS, ready=probe(PROMETHEUS_PORT, "/-/ready"), timeout=120))


@removal("Prometheus")
def remove() -> None:
    """Remove Prometheus. Measurements stay, with the account that owns them, unless purging."""
    units.absent(f"{UNIT}.service", file=False)
    packages.removed("prometheus", folders={"/etc/prometheus": ()})
    files.absent(DROP_IN.rsplit("/", 1)[0])
    for path in (DEFAULTS, RULES, CONFIG):
        files.absent(path)
    data.kept_or_purged("prometheus", {DATA: "metrics"}, user=ACCOUNT)


def probe(port: int, path: str) -> str:
    """Return a shell command that succeeds when this host answers `path` with 200."""
    program = f'import urllib.request as u; u.urlopen("http://127.0.0.1:{port}{path}", timeout=5).read()'
    return f"/usr/bin/python3 -c '{program}'"
