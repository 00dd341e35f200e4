"""Builds a .deb that stands in for Grafana's: layout, account, unit, command line, and a strict server.

The layout is that of Grafana's own package by its documents and packaging scripts
(github.com/grafana/grafana, packaging/deb): /usr/share/grafana/bin/grafana, /etc/grafana/grafana.ini,
/etc/default/grafana-server, /usr/lib/systemd/system/grafana-server.service, user grafana, not started by
itself; each installation makes what is in /etc/grafana 0640 root:grafana. The program is `program.py`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

CONTROL = """Package: grafana
Version: {version}
Architecture: all
Maintainer: stand-in <root@localhost>
Depends: adduser, python3, python3-yaml
Section: web
Priority: optional
Description: stand-in for Grafana, for tests of its deployment
"""
DEFAULTS = """GRAFANA_USER=grafana
GRAFANA_GROUP=grafana
GRAFANA_HOME=/usr/share/grafana
LOG_DIR=/var/log/grafana
DATA_DIR=/var/lib/grafana
CONF_DIR=/etc/grafana
CONF_FILE=/etc/grafana/grafana.ini
PLUGINS_DIR=/var/lib/grafana/plugins
PROVISIONING_CFG_DIR=/etc/grafana/provisioning
PID_FILE_DIR=/run/grafana
"""
UNIT = """[Unit]
Description=Grafana instance
After=network-online.target

[Service]
EnvironmentFile=/etc/default/grafana-server
User=grafana
Group=grafana
Type=simple
Restart=on-failure
WorkingDirectory=/usr/share/grafana
RuntimeDirectory=grafana
UMask=0027
ExecStart=/usr/share/grafana/bin/grafana server --config=${CONF_FILE} \\
  --pidfile=${PID_FILE_DIR}/grafana-server.pid \\
  cfg:default.paths.logs=${LOG_DIR} cfg:default.paths.data=${DATA_DIR} \\
  cfg:default.paths.plugins=${PLUGINS_DIR} cfg:default.paths.provisioning=${PROVISIONING_CFG_DIR}

[Install]
WantedBy=multi-user.target
"""
POSTINST = """#!/bin/sh
set -e
[ "$1" = configure ] || exit 0
getent group grafana >/dev/null || groupadd -r grafana
getent passwd grafana >/dev/null || adduser --quiet --system --home /usr/share/grafana \\
    --no-create-home --ingroup grafana --disabled-password --shell /bin/false grafana
mkdir -p /var/log/grafana /var/lib/grafana /etc/grafana/provisioning/datasources
mkdir -p /etc/grafana/provisioning/dashboards
chown -R grafana:grafana /var/log/grafana /var/lib/grafana
chmod 755 /var/log/grafana /var/lib/grafana
chown -R root:grafana /etc/grafana/*
find /etc/grafana -type f -exec chmod 640 {} ';'
find /etc/grafana -type d -exec chmod 755 {} ';'
"""
PRERM = """#!/bin/sh
set -e
[ "$1" != remove ] || systemctl stop grafana-server.service >/dev/null 2>&1 || true
"""


def build(folder: Path, version: str = "12.0.0") -> Path:
    """Build the .deb in `folder`."""
    tree = folder / f"grafana-{version}"
    files = {
        "DEBIAN/control": CONTROL.format(version=version),
        "DEBIAN/conffiles": "/etc/grafana/grafana.ini\n/etc/default/grafana-server\n",
        "DEBIAN/postinst": POSTINST,
        "DEBIAN/prerm": PRERM,
        "etc/grafana/grafana.ini": "; the package's own\n",
        "etc/default/grafana-server": DEFAULTS,
        "usr/lib/systemd/system/grafana-server.service": UNIT,
    }
    for path, text in files.items():
        file = tree / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    for script in ("postinst", "prerm"):
        (tree / "DEBIAN" / script).chmod(0o755)
    program = tree / "usr/share/grafana/bin/grafana"
    program.parent.mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("program.py"), program)
    program.chmod(0o755)
    made = folder / f"grafana_{version}_all.deb"
    words = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", str(tree), str(made)]
    fixed = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    subprocess.run(words, check=True, capture_output=True, env=fixed)
    return made
