"""Stand-in packages with the real names, versions, users, units and paths, and an apt repository of them.

    repository = build(folder, "9.4.9")
    with serving(repository.folder, "10.213.93.1") as url: …

The folder is laid out as Elastic's: `dists/stable/main/binary-amd64`, signed by a key made for the occasion.
"""

from __future__ import annotations

import gzip
import hashlib
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

from deploys.elastic.packages import debian_version

PROGRAMS = Path(__file__).parent / "programs"
VENDORED = ("pyparsing", "logstash_pipeline_parser", "pygrok")
DEPENDS = "python3, python3-yaml, adduser"


@dataclass(frozen=True)
class Repository:
    """The folder that apt reads, the key that signs it, and the packages themselves."""

    folder: Path
    key: Path
    fingerprint: str
    packages: tuple[Path, ...]


@dataclass(frozen=True)
class Package:
    """Content of a package except its control file: files with their modes, and the scripts of dpkg."""

    name: str
    version: str
    files: dict[str, tuple[str, int]]
    folders: tuple[str, ...]
    scripts: dict[str, str]
    conffiles: tuple[str, ...]
    sources: tuple[tuple[Path, str], ...]


def build(folder: Path, version: str) -> Repository:
    """Build the four packages of `version` in a signed repository below `folder`."""
    pool = folder / "repository" / "pool"
    pool.mkdir(parents=True)
    debs = tuple(_deb(package, pool, folder / "work") for package in packages(version))
    fingerprint, home = _key(folder / "gnupg")
    _index(folder / "repository", home)
    key = folder / "repository.asc"
    key.write_bytes(_gpg(home, "--armor", "--export", fingerprint))
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=True, timeout=20)
    return Repository(folder / "repository", key, fingerprint, debs)


@contextmanager
def serving(folder: Path, address: str) -> Iterator[str]:
    """Serve the folder over HTTP on a free port of `address`."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer((address, 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{address}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def packages(version: str) -> tuple[Package, ...]:
    """Return the contents of the four packages."""
    return (_elasticsearch(version), _logstash(version), _kibana(version), _filebeat(version))


def _elasticsearch(version: str) -> Package:
    home = "/usr/share/elasticsearch"
    unit = f"""[Unit]
Description=Elasticsearch
[Service]
Type=notify
NotifyAccess=all
RuntimeDirectory=elasticsearch
Environment=ES_PATH_CONF=/etc/elasticsearch
EnvironmentFile=-/etc/default/elasticsearch
WorkingDirectory={home}
User=elasticsearch
Group=elasticsearch
ExecStart=/usr/bin/python3 {home}/lib/elasticsearch.py
LimitNOFILE=16384
[Install]
WantedBy=multi-user.target
"""
    return Package(
        "elasticsearch",
        debian_version("elasticsearch", version),
        {
            "/usr/lib/systemd/system/elasticsearch.service": (unit, 0o644),
            "/usr/lib/sysctl.d/elasticsearch.conf": ("vm.max_map_count=1048576\n", 0o644),
            "/etc/default/elasticsearch": ("ES_PATH_CONF=/etc/elasticsearch\n", 0o660),
            "/etc/elasticsearch/elasticsearch.yml": ("path.data: /var/lib/elasticsearch\n", 0o660),
            "/etc/elasticsearch/jvm.options": ("-XX:+UseG1GC\n", 0o660),
            f"{home}/bin/elasticsearch-keystore": (
                f'#!/bin/sh\nexec python3 {home}/lib/keystore.py "$@"\n',
                0o755,
            ),
        },
        ("/etc/elasticsearch/jvm.options.d", "/var/lib/elasticsearch", "/var/log/elasticsearch"),
        {
            "preinst": _ELASTICSEARCH_PREINST,
            "postinst": _ELASTICSEARCH_POSTINST,
            "postrm": _ELASTICSEARCH_POSTRM,
        },
        (
            "/etc/default/elasticsearch",
            "/etc/elasticsearch/elasticsearch.yml",
            "/etc/elasticsearch/jvm.options",
        ),
        tuple(
            (PROGRAMS / f"{name}.py", f"{home}/lib")
            for name in ("common", "store", "elasticsearch", "keystore")
        ),
    )


def _logstash(version: str) -> Package:
    home = "/usr/share/logstash"
    unit = """[Unit]
Description=logstash
[Service]
Type=simple
User=logstash
Group=logstash
EnvironmentFile=-/etc/default/logstash
ExecStart=/usr/share/logstash/bin/logstash --path.settings /etc/logstash
Restart=always
WorkingDirectory=/
[Install]
WantedBy=multi-user.target
"""
    vendored = tuple((Path(next(iter(_spec(name)))), f"{home}/vendor/{name}") for name in VENDORED)
    return Package(
        "logstash",
        debian_version("logstash", version),
        {
            "/usr/lib/systemd/system/logstash.service": (unit, 0o644),
            "/etc/default/logstash": ('LS_HOME="/usr/share/logstash"\n', 0o644),
            "/etc/logstash/logstash.yml": ("# path.data:\n", 0o644),
            "/etc/logstash/pipelines.yml": ("- pipeline.id: main\n", 0o644),
            "/etc/logstash/jvm.options": ("-Xms1g\n-Xmx1g\n", 0o644),
            f"{home}/bin/logstash": (f'#!/bin/sh\nexec python3 {home}/lib/logstash.py "$@"\n', 0o755),
        },
        ("/etc/logstash/conf.d", "/var/lib/logstash", "/var/log/logstash"),
        {
            "preinst": _LOGSTASH_PREINST,
            "postinst": _LOGSTASH_POSTINST,
            "prerm": _STOP.replace("@", "logstash"),
        },
        (
            "/etc/default/logstash",
            "/etc/logstash/logstash.yml",
            "/etc/logstash/pipelines.yml",
            "/etc/logstash/jvm.options",
        ),
        (
            *((PROGRAMS / f"{name}.py", f"{home}/lib") for name in ("common", "logstash", "pipeline")),
            *vendored,
        ),
    )


def _kibana(version: str) -> Package:
    home = "/usr/share/kibana"
    unit = f"""[Unit]
Description=Kibana
[Service]
Type=simple
User=kibana
Group=kibana
Environment=KBN_PATH_CONF=/etc/kibana
EnvironmentFile=-/etc/default/kibana
ExecStart=/usr/bin/python3 {home}/lib/kibana.py
Restart=on-failure
RestartSec=3
WorkingDirectory={home}
[Install]
WantedBy=multi-user.target
"""
    return Package(
        "kibana",
        debian_version("kibana", version),
        {
            "/usr/lib/systemd/system/kibana.service": (unit, 0o644),
            "/usr/lib/tmpfiles.d/kibana.conf": ("d /run/kibana 0755 kibana kibana - -\n", 0o644),
            "/etc/default/kibana": ("", 0o644),
            "/etc/kibana/kibana.yml": ("# server.port: 5601\n", 0o660),
            "/etc/kibana/node.options": ("", 0o660),
        },
        ("/var/lib/kibana", "/var/log/kibana"),
        {"postinst": _KIBANA_POSTINST, "prerm": _STOP.replace("@", "kibana"), "postrm": _KIBANA_POSTRM},
        ("/etc/default/kibana", "/etc/kibana/kibana.yml", "/etc/kibana/node.options"),
        tuple((PROGRAMS / f"{name}.py", f"{home}/lib") for name in ("common", "kibana")),
    )


def _filebeat(version: str) -> Package:
    home = "/usr/share/filebeat"
    unit = """[Unit]
Description=Filebeat sends log files to Logstash or directly to Elasticsearch.
Wants=network-online.target
After=network-online.target
[Service]
UMask=0027
ExecStart=/usr/share/filebeat/bin/filebeat -c /etc/filebeat/filebeat.yml
Restart=always
[Install]
WantedBy=multi-user.target
"""
    start = f'#!/bin/sh\nexec python3 {home}/lib/filebeat.py "$@"\n'
    return Package(
        "filebeat",
        debian_version("filebeat", version),
        {
            "/usr/lib/systemd/system/filebeat.service": (unit, 0o644),
            "/etc/filebeat/filebeat.yml": ("filebeat.inputs: []\n", 0o600),
            f"{home}/bin/filebeat": (start, 0o755),
            "/usr/bin/filebeat": (start, 0o755),
        },
        ("/var/lib/filebeat", "/etc/filebeat/modules.d"),
        {"prerm": _STOP.replace("@", "filebeat")},
        ("/etc/filebeat/filebeat.yml",),
        tuple((PROGRAMS / f"{name}.py", f"{home}/lib") for name in ("common", "filebeat")),
    )


def _spec(name: str) -> list[str]:
    found = find_spec(name)
    return list((found and found.submodule_search_locations) or ())


def _deb(package: Package, pool: Path, work: Path) -> Path:
    root = work / package.name
    for folder in package.folders:
        (root / folder.lstrip("/")).mkdir(parents=True, exist_ok=True)
    for path, (content, mode) in package.files.items():
        file = root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        file.chmod(mode)
    for source, folder in package.sources:
        target = root / folder.lstrip("/")
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    control = root / "DEBIAN"
    control.mkdir()
    (control / "control").write_text(
        f"Package: {package.name}\nVersion: {package.version}\nArchitecture: amd64\nDepends: {DEPENDS}\n"
        "Maintainer: clawd-provision tests <root@localhost>\nDescription: stand-in, not the real one\n"
    )
    (control / "conffiles").write_text("".join(f"{path}\n" for path in package.conffiles))
    for name, script in package.scripts.items():
        (control / name).write_text(script)
        (control / name).chmod(0o755)
    plain = package.version.removeprefix("1:").removesuffix("-1")
    deb = pool / f"{package.name}-{plain}-amd64.deb"
    words = ["dpkg-deb", "--root-owner-group", "-Zgzip", "--build", str(root), str(deb)]
    subprocess.run(words, check=True, capture_output=True, timeout=60)
    return deb


def _key(home: Path) -> tuple[str, Path]:
    home.mkdir(mode=0o700)
    _gpg(home, "--passphrase", "", "--quick-gen-key", "stand-in <root@localhost>", "rsa2048", "sign", "never")
    listed = _gpg(home, "--with-colons", "--fingerprint").decode()
    return next(line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr:")), home


def _gpg(home: Path, *words: str) -> bytes:
    command = ["gpg", "--batch", "--yes", "--homedir", str(home), *words]
    return subprocess.run(command, check=True, capture_output=True, timeout=60).stdout


def _index(root: Path, home: Path) -> None:
    binary = root / "dists/stable/main/binary-amd64"
    binary.mkdir(parents=True)
    words = ["dpkg-scanpackages", "--multiversion", "pool"]
    listed = subprocess.run(words, cwd=root, check=True, capture_output=True, timeout=60).stdout
    (binary / "Packages").write_bytes(listed)
    (binary / "Packages.gz").write_bytes(gzip.compress(listed))
    stable = root / "dists/stable"
    sums = "".join(
        f" {hashlib.sha256(file.read_bytes()).hexdigest()} {file.stat().st_size} {file.relative_to(stable)}\n"
        for file in sorted(binary.iterdir())
    )
    release = stable / "Release"
    release.write_text(
        "Origin: stand-in\nSuite: stable\nCodename: stable\nArchitectures: amd64\nComponents: main\n"
        f"Date: {format_datetime(datetime.now(UTC))}\n"
        f"SHA256:\n{sums}"
    )
    _gpg(home, "--clearsign", "-o", str(release.with_name("InRelease")), str(release))


_STOP = """#!/bin/sh
if [ "$1" = remove ]; then systemctl stop @ || true; systemctl disable @ || true; fi
"""

_ELASTICSEARCH_PREINST = """#!/bin/sh
set -e
getent group elasticsearch >/dev/null || addgroup --quiet --system elasticsearch
getent passwd elasticsearch >/dev/null || adduser --quiet --system --no-create-home --home /nonexistent \
    --ingroup elasticsearch --disabled-password --shell /bin/false elasticsearch
"""

# As the real one: without configured security it sets up its own, and the installation prints its password.
_ELASTICSEARCH_POSTINST = """#!/bin/sh
set -e
chown -R elasticsearch:elasticsearch /var/lib/elasticsearch /var/log/elasticsearch
chmod 2750 /var/lib/elasticsearch /var/log/elasticsearch
chown -R root:elasticsearch /etc/elasticsearch
chmod 2750 /etc/elasticsearch /etc/elasticsearch/jvm.options.d
if [ -z "$2" ] && ! grep -q '^xpack.security' /etc/elasticsearch/elasticsearch.yml; then
    mkdir -p /etc/elasticsearch/certs
    touch /etc/elasticsearch/certs/http.p12
    echo "The generated password for the elastic built-in superuser is : standin"
fi
if [ ! -f /etc/elasticsearch/elasticsearch.keystore ]; then
    /usr/share/elasticsearch/bin/elasticsearch-keystore create
    chown root:elasticsearch /etc/elasticsearch/elasticsearch.keystore
    chmod 660 /etc/elasticsearch/elasticsearch.keystore
fi
systemctl daemon-reload || true
"""

_ELASTICSEARCH_POSTRM = """#!/bin/sh
case "$1" in remove|purge) ;; *) exit 0 ;; esac
rm -rf /var/log/elasticsearch /usr/share/elasticsearch/bin
[ ! -d /var/lib/elasticsearch ] || rmdir --ignore-fail-on-non-empty /var/lib/elasticsearch
if [ "$1" = purge ]; then
    rm -rf /etc/elasticsearch/jvm.options.d
    ! id elasticsearch >/dev/null 2>&1 || userdel elasticsearch
    ! getent group elasticsearch >/dev/null || groupdel elasticsearch
fi
[ ! -d /etc/elasticsearch ] || rmdir --ignore-fail-on-non-empty /etc/elasticsearch
exit 0
"""

_LOGSTASH_PREINST = """#!/bin/sh
set -e
getent group logstash >/dev/null || groupadd -r logstash
getent passwd logstash >/dev/null || useradd -r -g logstash -d /usr/share/logstash logstash
"""

_LOGSTASH_POSTINST = """#!/bin/sh
chown -R logstash:logstash /usr/share/logstash
chown -R logstash /var/log/logstash
chown logstash:logstash /var/lib/logstash
chmod 755 /etc/logstash
systemctl daemon-reload || true
"""

_KIBANA_POSTINST = """#!/bin/sh
set -e
getent group kibana >/dev/null || addgroup --quiet --system kibana
getent passwd kibana >/dev/null || adduser --quiet --system --no-create-home --disabled-password \
    --home /nonexistent --ingroup kibana --shell /bin/false kibana
chmod -f 660 /etc/kibana/kibana.yml || true
chmod -f 2750 /var/lib/kibana /etc/kibana || true
chown -R kibana:kibana /var/lib/kibana
chown -R root:kibana /etc/kibana
systemd-tmpfiles --create kibana.conf || true
systemctl daemon-reload || true
"""

_KIBANA_POSTRM = """#!/bin/sh
case "$1" in remove|purge) ;; *) exit 0 ;; esac
rm -rf /var/log/kibana /run/kibana
[ ! -d /etc/kibana ] || rmdir --ignore-fail-on-non-empty /etc/kibana
[ ! -d /var/lib/kibana ] || rmdir --ignore-fail-on-non-empty /var/lib/kibana
if [ "$1" = purge ]; then
    ! id kibana >/dev/null 2>&1 || userdel kibana
    ! getent group kibana >/dev/null || groupdel kibana
fi
exit 0
"""
