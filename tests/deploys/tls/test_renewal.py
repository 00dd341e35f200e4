"""The program that obtains and renews, and what a host is given for it."""

from __future__ import annotations

import importlib.util
import json
import os
import ssl
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from deploys.nginx.deploy import reads
from deploys.nginx.settings import NginxSettings
from deploys.ops.debian.packages import BroughtFact, WantedFact
from deploys.ops.facts import PackagesFact, PathFact, PathState, UnitFact, UnitState
from deploys.ops.paths.files import TEMPLATES
from deploys.ops.services import stamp_of
from deploys.tls import deploy, renewal
from deploys.tls.certificate import Installed, new_certificate
from deploys.tls.deploy import CertificateFact
from deploys.tls.settings import AcmeSettings, TlsSettings
from tests.deploys.harness import Machine

NAMES = ("bot.example.com", "www.example.com")
BARE: dict[Any, Any] = {
    PathFact: PathState(),
    PackagesFact: frozenset(),
    WantedFact: frozenset(),
    BroughtFact: None,
    UnitFact: UnitState(),
    CertificateFact: Installed(),
}


def acme(**changes: Any) -> TlsSettings:
    return TlsSettings(mode="acme", names=NAMES, acme=AcmeSettings(email="a@example.com", **changes))


@pytest.fixture
def program(tmp_path: Path) -> ModuleType:
    """The installed program, with its places moved below a folder."""
    spec = importlib.util.spec_from_file_location("certificate", TEMPLATES / "tls" / "certificate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("CONFIG", "ENVIRONMENT", "CURRENT", "SERIALS", "LEGO", "STAMP", "METRICS"):
        place = getattr(module, name)
        setattr(module, name, tmp_path / str(place).lstrip("/"))
    module.CURRENT.parent.mkdir(parents=True)
    return module


def pair(folder: Path, *, days: int = 90, age: int = 0) -> tuple[Path, Path]:
    """A chain and its key that began `age` days ago."""
    wanted = TlsSettings(names=NAMES, lifetime_days=days)
    made = new_certificate(wanted, None, datetime.now(UTC) - timedelta(days=age))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "new.crt").write_bytes(made.certificate_pem)
    (folder / "new.key").write_bytes(made.key_pem)
    return folder / "new.crt", folder / "new.key"


def config_of(program: ModuleType, **changes: Any) -> dict[str, Any]:
    """Return the configuration of the program, nginx's files being below the same folder."""
    root = program.CURRENT.parents[2]
    watched = [str(root / path.lstrip("/")) for path in renewal.READ_BY_NGINX]
    return {**json.loads(json.dumps(renewal.config(acme()))), "watched": watched, **changes}


def test_renewal_watches_the_files_in_the_stamp_of_nginx() -> None:
    over_tls = NginxSettings(upstreams=("10.0.0.2:8444",), bots_over_tls=True)
    assert reads(over_tls) == renewal.READ_BY_NGINX


def test_renewed_certificate_goes_live_atomically_and_updates_the_nginx_stamp(
    program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "serve", lambda _: None)
    config = config_of(program)
    program.install(config, *pair(tmp_path / "first"))
    first = program.CURRENT.readlink()
    program.STAMP.parent.mkdir(parents=True)
    program.STAMP.write_text(stamped(config))
    program.install(config, *pair(tmp_path / "second"))
    assert program.CURRENT.readlink() != first
    assert [path.name for path in program.SERIALS.iterdir()] == [program.CURRENT.readlink().name]
    assert program.STAMP.read_text().strip() == stamped(config)
    assert (program.CURRENT / "source").read_text() == config["server"]
    assert (program.CURRENT / "privkey.pem").stat().st_mode & 0o777 == 0o600
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
        program.CURRENT / "fullchain.pem", program.CURRENT / "privkey.pem"
    )


def test_renewal_does_not_update_a_stamp_of_other_files(
    program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "serve", lambda _: None)
    program.STAMP.parent.mkdir(parents=True)
    program.STAMP.write_text("of another configuration\n")
    program.install(config_of(program), *pair(tmp_path / "first"))
    assert program.STAMP.read_text() == "of another configuration\n"


def stamped(config: dict[str, Any]) -> str:
    """As `services.converge` does it."""
    files = [path for path in config["watched"] if Path(path).is_file()]
    lines = subprocess.run(["sha256sum", *files], capture_output=True, text=True, check=True).stdout
    return stamp_of("", tuple(lines.splitlines()))


@pytest.mark.parametrize(
    ("age", "fraction", "due"), [(0, 0.33, False), (59, 0.33, False), (62, 0.33, True), (62, 0.25, False)]
)
def test_is_time_follows_the_fraction_of_the_lifetime(
    program: ModuleType, tmp_path: Path, age: int, fraction: float, due: bool
) -> None:
    program.CURRENT.mkdir()
    chain, _ = pair(tmp_path / "made", age=age)
    chain.rename(program.CURRENT / "fullchain.pem")
    config = config_of(program, renew_fraction=fraction)
    assert program.is_time(config, time.time()) is due
    assert not program.is_time({"mode": "provided"}, time.time())


def test_failed_renewal_is_not_repeated_at_once(program: ModuleType, tmp_path: Path) -> None:
    program.CURRENT.mkdir()
    chain, _ = pair(tmp_path / "made", age=80)
    chain.rename(program.CURRENT / "fullchain.pem")
    program.LEGO.mkdir(parents=True)
    (program.LEGO / "failed").touch()
    now = time.time()
    assert not program.is_time(config_of(program), now + 5 * 3600)
    assert program.is_time(config_of(program), now + 7 * 3600)
    ends = program.lifetime(program.CURRENT / "fullchain.pem")[1]
    os.utime(program.LEGO / "failed", (ends - 3600, ends - 3600))
    assert program.is_time(config_of(program), ends - 3000), "the closer the end, the sooner"


def test_obtained_certificate_is_checked(program: ModuleType, tmp_path: Path) -> None:
    chain, key = pair(tmp_path / "one")
    config = config_of(program)
    program.check(config, chain, key)
    _, other = pair(tmp_path / "two")
    with pytest.raises(program.Problem, match="no certificate with its key"):
        program.check(config, chain, other)
    with pytest.raises(program.Problem, match=r"not for third\.example\.com"):
        program.check({**config, "names": [*NAMES, "third.example.com"]}, chain, key)
    with pytest.raises(program.Problem, match="not valid now"):
        program.check(config, *pair(tmp_path / "old", age=100))


def test_renewal_exports_expiry_and_failure(program: ModuleType, tmp_path: Path) -> None:
    program.tell()
    assert not program.METRICS.exists(), "no exporter reads them here"
    program.METRICS.parent.mkdir(parents=True)
    program.CURRENT.mkdir()
    chain, _ = pair(tmp_path / "made")
    chain.rename(program.CURRENT / "fullchain.pem")
    program.tell()
    begin, end = program.lifetime(program.CURRENT / "fullchain.pem")
    assert program.METRICS.read_text().splitlines() == [
        "# TYPE clawd_tls_not_before_seconds gauge",
        f"clawd_tls_not_before_seconds {begin:.0f}",
        "# TYPE clawd_tls_not_after_seconds gauge",
        f"clawd_tls_not_after_seconds {end:.0f}",
        "# TYPE clawd_tls_renewal_failed gauge",
        "clawd_tls_renewal_failed 0",
    ]


def test_arguments_of_lego_name_domains_and_challenge(program: ModuleType) -> None:
    by_dns = renewal.config(acme(challenge="dns-01", provider="alidns", resolvers=("10.0.0.53:53",)))
    words = " ".join(program.arguments(by_dns))
    assert "--domains bot.example.com --domains www.example.com" in words
    assert words.endswith("--dns alidns --dns.resolvers 10.0.0.53:53")
    alone = renewal.config(acme(http_port=1))
    assert program.arguments(alone)[-2:] == ["--http.port", ":1"]


def test_plan_of_a_first_acme_certificate_shows_no_secret() -> None:
    settings = acme(environment={"ALICLOUD_SECRET_KEY": "of the provider"}, provider="alidns")
    data = {"tls": settings}
    run = Machine(data, facts=BARE).run(deploy.apply, execute=False)
    (issue,) = (change for change in run.changes if change.path.endswith("fullchain.pem"))
    assert issue.diff == ("obtain a certificate for bot.example.com, www.example.com: there is none",)
    assert run.changes[0].diff == ("install lego",)
    assert "of the provider" not in repr(run)


def test_host_without_acme_has_no_client() -> None:
    run = Machine({"tls": TlsSettings(names=NAMES)}, facts=BARE).run(deploy.apply, execute=False)
    assert "packages" not in [change.path for change in run.changes]
    assert json.loads(json.dumps(renewal.config(TlsSettings(names=NAMES)))) == {"mode": "own-ca"}


def test_removal_removes_units_program_and_state() -> None:
    there = {
        **BARE,
        PathFact: PathState("file"),
        UnitFact: UnitState(load="loaded"),
        BroughtFact: frozenset({"lego"}),
    }
    run = Machine(facts=there).run(deploy.remove, execute=False)
    assert [change.path for change in run.changes] == [
        "clawd-tls.timer",
        "clawd-tls.service",
        "packages",
        "/usr/local/lib/clawd/certificate",
        "/etc/clawd/acme",
        "/var/lib/clawd/lego",
        "/var/lib/clawd/state/tls.lock",
        "/var/lib/clawd/node-exporter/clawd_tls.prom",
        "/etc/clawd/tls",
        "/etc/clawd/tls.d",
    ]


def test_removal_deletes_the_lock_file_of_the_program(program: ModuleType, tmp_path: Path) -> None:
    with program.locked():
        pass
    (lock,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    facts = {**BARE, PathFact: PathState("file")}
    run = Machine(facts=facts).run(renewal.absent, execute=False)
    assert f"/{lock.relative_to(tmp_path)}" in {change.path for change in run.changes}
