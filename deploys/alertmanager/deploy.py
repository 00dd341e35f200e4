"""Install Alertmanager: Debian's package with a configuration that amtool has accepted."""

from __future__ import annotations

from pyinfra.api import deploy

from deploys.alertmanager.config import CONFIG, DATA, TOKEN, arguments, config
from deploys.alertmanager.settings import AlertmanagerSettings
from deploys.exporters.exporter import ACCOUNT, defaults_text
from deploys.ops import services, units
from deploys.ops.debian import packages
from deploys.ops.paths import data, files
from deploys.ops.removal import removal
from deploys.ops.services import Service
from deploys.prometheus.deploy import probe
from deploys.settings import settings_of
from deploys.topology.monitoring import ALERTMANAGER_PORT

UNIT = "prometheus-alertmanager"
DEFAULTS = f"/etc/default/{UNIT}"
DROP_IN = f"/etc/systemd/system/{UNIT}.service.d/clawd.conf"
READS = (DEFAULTS, DROP_IN, CONFIG, TOKEN)


@deploy("Alertmanager")
def apply() -> None:
    """Install Alertmanager, which passes alerts to the bots."""
    settings = settings_of("alertmanager", AlertmanagerSettings)
    files.put(DEFAULTS, defaults_text(arguments()))
    files.directory(DROP_IN.rsplit("/", 1)[0])
    files.template("prometheus/service.conf", DROP_IN, {})
    packages.installed(UNIT, component="alertmanager")
    files.directory(DATA, owner=ACCOUNT, group=ACCOUNT, mode="0750")
    if settings.token is None:
        files.absent(TOKEN)
    else:
        secret = settings.token.get_secret_value()
        files.put(TOKEN, secret, owner=ACCOUNT, group=ACCOUNT, mode="0400", secret=True)
    files.put(CONFIG, config(settings), check="amtool check-config {}")
    services.converge(Service(UNIT, watch=READS, ready=probe(ALERTMANAGER_PORT, "/-/ready")))


@removal("Alertmanager")
def remove() -> None:
    """Remove Alertmanager. Its silences stay, with the account that owns them, unless purging."""
    units.absent(f"{UNIT}.service", file=False)
    packages.removed("alertmanager", folders={"/etc/prometheus": ()})
    files.absent(DROP_IN.rsplit("/", 1)[0])
    for path in (DEFAULTS, TOKEN, CONFIG):
        files.absent(path)
    data.kept_or_purged("alertmanager", {DATA: "silences and notifications of Alertmanager"}, user=ACCOUNT)
