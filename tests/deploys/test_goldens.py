"""No template with values without a golden file, and no file on hosts that its own program does not take.

A template without values is what lies on hosts: it is checked itself, and needs no golden file.

What cannot be asked on the machine of the tests is named, with the test on real hosts that asks there.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from configparser import ConfigParser
from datetime import UTC, datetime
from fnmatch import fnmatch
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from jinja2 import Environment, nodes
from jinja2.meta import find_referenced_templates
from ruamel.yaml import YAML

from deploys.exporters.exporter import CERTIFICATE
from deploys.ops.paths.files import TEMPLATES
from deploys.prometheus.config import RULES
from deploys.tls.certificate import new_authority
from tests.deploys.nginx.front import NGINX, certificate, free_port, internal_certificate, moved
from tests.deploys.prometheus.tools import program
from tests.deploys.test_goldens_on_hosts import COMMANDS

ROOT = Path(__file__).parent
VALUES = re.compile(r"\{[{%#]")


def templates() -> list[Path]:
    """Return all templates, but not the caches that Python writes."""
    return sorted(
        file for file in TEMPLATES.rglob("*") if file.is_file() and file.parent.name != "__pycache__"
    )


@cache
def environment() -> Environment:
    return Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)


def included() -> set[str]:
    found: set[str] = set()
    for file in templates():
        found |= {str(name) for name in find_referenced_templates(environment().parse(file.read_text()))}
    return found


def is_whole(template: Path) -> bool:
    """Return whether a template lies on hosts as it is: without values, and no part of another."""
    return not VALUES.search(template.read_text()) and str(template.relative_to(TEMPLATES)) not in included()


GOLDENS = {
    str(file.relative_to(ROOT)): file for file in sorted(ROOT.glob("**/golden/**/*")) if file.is_file()
} | {str(file.relative_to(TEMPLATES.parent)): file for file in templates() if is_whole(file)}
POSTGRES = os.environ.get("CLAWD_TEST_POSTGRES", "/usr/lib/postgresql/15/bin")


def ran(*words: str | Path, **options: Any) -> None:
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, **options)
    assert done.returncode == 0, done.stdout + done.stderr


def unit(golden: Path, folder: Path) -> None:
    """A unit, under the name that it has on a host, with the one that its timer starts."""
    text = golden.read_text()
    name = golden.name
    if where := re.search(r"^Where=(.*)$", text, re.MULTILINE):
        words = ["systemd-escape", "--path", "--suffix=mount", where[1]]
        name = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    (folder / name).write_text(text)
    if golden.suffix == ".timer":
        service = golden.with_suffix(".service")
        if not service.exists() or VALUES.search(service.read_text()):
            (service,) = ROOT.glob(f"*/golden/{service.name}")
        shutil.copy(service, folder)
    accepted(folder, name, name)


def drop_in(golden: Path, folder: Path) -> None:
    """What is ours about a unit of a package, next to a unit as the package has one."""
    (folder / "packaged.service").write_text("[Service]\nExecStart=/bin/true\n")
    (folder / "packaged.service.d").mkdir()
    shutil.copy(golden, folder / "packaged.service.d" / "clawd.conf")
    accepted(folder, "packaged.service", "clawd.conf")


def accepted(folder: Path, name: str, of: str) -> None:
    """systemd has nothing to say of the file `of`, but that programs of hosts are not here."""
    words = ["systemd-analyze", "verify", "--recursive-errors=no", str(folder / name)]
    environment = {**os.environ, "SYSTEMD_UNIT_PATH": f"{folder}:"}
    said = subprocess.run(words, capture_output=True, text=True, timeout=60, env=environment)
    lines = [line for line in said.stderr.splitlines() if of in line or name in line]
    absent = re.compile(r"Command \S+ is not executable: No such file or directory$")
    assert [line for line in lines if not absent.search(line)] == []


def ruleset(golden: Path, _: Path) -> None:
    ran("nft", "--check", "--file", golden)


def python(golden: Path, _: Path) -> None:
    ast.parse(golden.read_text())


def shell(golden: Path, _: Path) -> None:
    ran("sh", "-n", golden)


def assigned(golden: Path, _: Path) -> None:
    """An environment for systemd: assignments that a shell takes apart into one value each."""
    lines = [line for line in golden.read_text().splitlines() if line and not line.startswith("#")]
    assert lines
    for line in lines:
        words = shlex.split(line)
        assert len(words) == 1, line
        assert re.match(r"[A-Z_]+=.", words[0]), line


def yaml(golden: Path, _: Path) -> None:
    assert YAML(typ="safe").load(golden.read_text())


def ini(golden: Path, _: Path) -> None:
    parser = ConfigParser(interpolation=None)
    parser.read_string(golden.read_text())
    assert parser.sections()


def html(golden: Path, _: Path) -> None:
    """Every element that is begun is ended."""
    opened: list[str] = []

    class Elements(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag not in ("meta", "br", "link"):
                opened.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert opened.pop() == tag

    Elements().feed(golden.read_text())
    assert not opened


def apt_settings(golden: Path, _: Path) -> None:
    ran("apt-config", "--config-file", golden, "dump")


def apt_source(golden: Path, folder: Path) -> None:
    """apt finds what it would fetch."""
    shutil.copy(golden, folder)
    options = ["Debug::NoLocking=1", "Dir::Etc::sourcelist=-", f"Dir::Etc::sourceparts={folder}"]
    words = ["apt-get", "--print-uris", *(word for option in options for word in ("-o", option)), "update"]
    completed = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert completed.returncode == 0, completed.stderr
    (uri,) = re.findall(r"^URIs: (.*)$", golden.read_text(), re.MULTILINE)
    assert f"'{uri}/" in completed.stdout


def server(golden: Path, folder: Path) -> None:
    """nginx takes it, with the bots' file that belongs to it and a certificate, on ports that are free."""
    bots = golden.with_name(f"{golden.stem}-upstreams.conf")
    shutil.copy(
        bots if bots.exists() else golden.with_name("one-host-upstreams.conf"), folder / "upstreams.conf"
    )
    shutil.copy(TEMPLATES / "nginx" / "maintenance.html", folder)
    certificate(folder)
    internal_certificate(folder / "internal", new_authority("clawd", datetime.now(UTC)), "10.0.0.1")
    text = moved(golden.read_text(), folder, free_port())
    ports = {port: str(free_port()) for port in set(re.findall(r"listen \S*?(\d+)[ ;]", text))}
    text = re.sub(r"(listen \S*?)(\d+)(?=[ ;])", lambda found: found[1] + ports[found[2]], text)
    (folder / "nginx.conf").write_text(text)
    ran(str(NGINX), "-t", "-q", "-p", folder, "-c", folder / "nginx.conf")


def bots(golden: Path, folder: Path) -> None:
    whole = f"events {{ }}\nhttp {{ include {golden}; }}\n"
    (folder / "nginx.conf").write_text(moved(whole, folder, free_port()))
    ran(str(NGINX), "-t", "-q", "-p", folder, "-c", folder / "nginx.conf", "-g", f"pid {folder}/pid;")


def measured(golden: Path, folder: Path) -> None:
    rules = golden.with_name("clawd-rules.yml")
    internal_certificate(folder, new_authority("clawd", datetime.now(UTC)), "10.0.0.1")
    text = golden.read_text().replace(RULES, str(rules)).replace(CERTIFICATE, str(folder))
    (folder / "prometheus.yml").write_text(text)
    ran(program("promtool"), "check", "config", folder / "prometheus.yml")


def web_config(golden: Path, folder: Path) -> None:
    internal_certificate(folder, new_authority("clawd", datetime.now(UTC)), "10.0.0.1")
    (folder / "web.yml").write_text(golden.read_text().replace(CERTIFICATE, str(folder)))
    ran(program("promtool"), "check", "web-config", folder / "web.yml")


def alert_rules(golden: Path, _: Path) -> None:
    ran(program("promtool"), "check", "rules", golden)


def alertmanager_config(golden: Path, _: Path) -> None:
    ran(program("amtool"), "check-config", golden)


def database(golden: Path, folder: Path) -> None:
    """PostgreSQL reads the settings, and knows each of them."""
    (folder / "postgresql.conf").write_text(f"include '{golden}'\n")
    words = (Path(POSTGRES) / "postgres", "-C", "max_connections", "-D", folder)
    ran(*words, "-c", f"data_directory={folder}")


def certificate_file(golden: Path, _: Path) -> None:
    ran("openssl", "x509", "-noout", "-in", golden)


HERE: dict[str, Callable[[Path, Path], None]] = {
    "alertmanager/golden/*.yml": alertmanager_config,
    "database/golden/s*.conf": database,
    "database/golden/backup-*": shell,
    "database/golden/backup.env": assigned,
    "database/golden/restore-database": shell,
    "docker/golden/ca.crt": certificate_file,
    "docker/golden/clawd.env": assigned,
    "docker/golden/guard.nft": ruleset,
    "elasticsearch/golden/*.yml": yaml,
    "exporters/golden/*.default": assigned,
    "exporters/golden/blackbox.yml": yaml,
    "exporters/golden/clawd-web.yml": web_config,
    "firewall/golden/*.conf": ruleset,
    "grafana/golden/*.ini": ini,
    "grafana/golden/*.yml": yaml,
    "hardening/golden/10-clawd.conf": ini,
    "hardening/golden/clawd-idle.sh": shell,
    "hardening/golden/52clawd-security-updates": apt_settings,
    "nginx/golden/*-upstreams.conf": bots,
    "nginx/golden/*.conf": server,
    "ops/debian/golden/*.sources": apt_source,
    "prometheus/golden/*.default": assigned,
    "prometheus/golden/clawd-rules.yml": alert_rules,
    "prometheus/golden/prometheus.yml": measured,
    "templates/database/backup-database": shell,
    "templates/exporters/*-metrics": python,
    "templates/hardening/*.sh": shell,
    "templates/hardening/coredump.conf": ini,
    "templates/hardening/debsums": assigned,
    "templates/nginx/maintenance.html": html,
    "templates/nginx/upstream.py": python,
    "templates/tls/certificate.py": python,
    "*/golden/*service.conf": drop_in,
    "templates/*/service.conf": drop_in,
    "exporters/golden/*.conf": drop_in,
    "*.service": unit,
    "*.timer": unit,
    "*.mount": unit,
    "*.slice": unit,
}
"""By which program a golden file is taken, here; the longest pattern that fits counts."""

ON_HOSTS = {
    **dict.fromkeys(
        COMMANDS,
        "test_goldens_on_hosts.py::test_host_program_accepts_the_golden_file_and_refuses_a_misspelt_one",
    ),
    "base/golden/home-anna-.ssh-authorized_keys": "test_on_hosts.py::test_operator_can_log_in_until_dropped",
    "templates/hardening/limits.conf": "hardening/test_on_hosts.py::test_core_dumps_are_disabled",
    "base/golden/etc-timezone": "test_on_hosts.py::test_checks_pass_after_up",
    "database/golden/pg_hba.conf": "database/test_on_hosts.py::test_checks_pass_after_up",
    "elasticsearch/golden/*": "elasticsearch/test_on_hosts.py::test_checks_pass_after_up",
    "exporters/golden/blackbox.yml": "exporters/test_on_hosts.py::test_checks_pass_after_up",
    "grafana/golden/*": "exporters/test_on_hosts.py::test_checks_pass_after_up",
}
"""Whose program is not on the machine of the tests, or does more than look: the test that asks it on hosts.

Of the log programs and Grafana, stand-ins are asked: their packages cannot be had. Only the form of what
timesyncd reads is looked at: it runs in no container.
"""
NO_CONFIGURATION = {"base/golden/operations.txt"}


def fitting(name: str, patterns: dict[str, Any]) -> Any:
    found = [pattern for pattern in patterns if fnmatch(name, pattern)]
    return patterns[max(found, key=len)] if found else None


@pytest.mark.parametrize("name", [name for name in GOLDENS if fitting(name, HERE)])
def test_program_of_a_golden_file_accepts_it(name: str, tmp_path: Path) -> None:
    fitting(name, HERE)(GOLDENS[name], tmp_path)


SPOILT = {
    "templates/tls/clawd-tls.service": ("ProtectSystem=strict", "ProtectSystem=very"),
    "templates/tls/clawd-tls.timer": ("OnCalendar=hourly", "OnCalendar=sometimes"),
    "disk/golden/place.mount": ("[Mount]", "[Mout]"),
    "templates/nginx/service.conf": ("RestartSec=1", "RestartSecs=1"),
    "docker/golden/guard.nft": ("accept", "acept"),
    "docker/golden/clawd.env": ("HTTP_PROXY=", "HTTP_PROXY= "),
    "hardening/golden/52clawd-security-updates": ('";', '"'),
    "ops/debian/golden/clawd-docker.sources": ("Suites", "Suits"),
    "nginx/golden/one-host.conf": ("server_tokens", "server_token"),
    "templates/nginx/maintenance.html": ("</title>", "</titel>"),
    "prometheus/golden/prometheus.yml": ("scrape_interval", "scrap_interval"),
    "alertmanager/golden/team.yml": ("receiver", "reciever"),
    "database/golden/settings.conf": ("work_mem", "works_mem"),
    "templates/exporters/gpu-metrics": ("import", "imports"),
    "exporters/golden/clawd-web.yml": ("client_ca_file", "client_cas_file"),
}
"""A word of a golden file, and a mistake in its place."""


@pytest.mark.parametrize("name", SPOILT)
def test_program_of_a_golden_file_refuses_a_misspelt_one(name: str, tmp_path: Path) -> None:
    old, new = SPOILT[name]
    folder, work = tmp_path / "golden", tmp_path / "work"
    shutil.copytree(GOLDENS[name].parent, folder)
    work.mkdir()
    text = GOLDENS[name].read_text()
    assert old in text
    (folder / GOLDENS[name].name).write_text(text.replace(old, new))
    with pytest.raises((AssertionError, SyntaxError)):
        fitting(name, HERE)(folder / GOLDENS[name].name, work)


def test_every_golden_file_is_checked_by_a_program() -> None:
    taken = {name for name in GOLDENS if fitting(name, HERE) or fitting(name, ON_HOSTS)}
    assert set(GOLDENS) - taken == NO_CONFIGURATION
    for pattern in (*HERE, *ON_HOSTS):
        assert any(fnmatch(name, pattern) for name in GOLDENS), f"{pattern} fits nothing"


@pytest.mark.parametrize("place", sorted(set(ON_HOSTS.values())))
def test_test_that_checks_a_golden_file_on_hosts_exists(place: str) -> None:
    file, _, name = place.partition("::")
    text = (ROOT / file).read_text()
    assert re.search(rf"^(def {name}\(|{name} = on_all\()", text, re.MULTILINE), place
    assert re.search(r"^pytestmark = .*on_hosts\(|pytest\.mark\.host", text, re.MULTILINE)


def fixed_parts(template: Path) -> list[str]:
    """What a template always says, in order: all but its values, and what is under a condition."""
    tree = environment().parse(template.read_text())
    return [
        part.data
        for output in tree.body
        if isinstance(output, nodes.Output)
        for part in output.nodes
        if isinstance(part, nodes.TemplateData)
    ]


def says(text: str, parts: list[str], *, within: bool) -> bool:
    """Whether `text` has these parts in order, from its beginning to its end unless it lies `within`."""
    if not parts or (not within and not text.startswith(parts[0])):
        return False
    pattern = ".*?".join(re.escape(part) for part in parts)
    return re.search(pattern, text, re.DOTALL) is not None


@pytest.mark.parametrize(
    "name", [str(file.relative_to(TEMPLATES)) for file in templates() if not is_whole(file)]
)
def test_every_template_with_values_has_a_golden_file(name: str) -> None:
    parts, within = fixed_parts(TEMPLATES / name), name in included()
    rendered = [golden for golden, file in GOLDENS.items() if says(file.read_text(), parts, within=within)]
    assert rendered, f"no golden file of a test is templates/{name}"


def test_golden_file_of_another_template_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "new.conf").write_text("[Service]\n{% if a %}\nX=1\n{% endif %}\nRestart={{ how }}\nEnd=1\n")
    parts = fixed_parts(tmp_path / "new.conf")
    assert parts == ["[Service]\n", "Restart=", "\nEnd=1\n"]
    assert says("[Service]\nX=1\nRestart=no\nEnd=1\n", parts, within=False)
    assert not says("# of another\n[Service]\nRestart=no\nEnd=1\n", parts, within=False)
    assert not says("[Service]\nRestart=no\n", parts, within=False)
    assert not [name for name, file in GOLDENS.items() if says(file.read_text(), parts, within=False)]
