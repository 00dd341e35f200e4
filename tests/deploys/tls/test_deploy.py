"""Issuing onto a file system, with the clock moved by the test."""

from __future__ import annotations

import logging
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from pydantic import SecretStr

from deploys.artifacts import NO_ROTATION, Rotation, Supplies
from deploys.tls import deploy
from deploys.tls.settings import ProvidedSettings, TlsSettings
from tests.deploys.harness import OWN, Machine, Run

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
WANTED = TlsSettings(names=("bot.example.com", "10.0.0.1"))


class Host:
    """Where certificates go, and the laptop's state next to it."""

    def __init__(self, folder: Path) -> None:
        self.current, self.serials, self.state = folder / "tls", folder / "tls.d", folder / "state"

    def issue(
        self,
        wanted: TlsSettings = WANTED,
        *,
        days: float = 0,
        execute: bool = True,
        rotation: Rotation = NO_ROTATION,
    ) -> Run:
        return Machine().run(
            lambda: deploy.certificate(
                wanted,
                Supplies(self.state, rotation=rotation),
                folder=str(self.current),
                owner=OWN["owner"],
                clock=lambda: NOW + timedelta(days=days),
            ),
            execute=execute,
        )

    @property
    def trusted(self) -> bytes:
        return (self.current / "ca.pem").read_bytes()

    @property
    def serial(self) -> int:
        return x509.load_pem_x509_certificates((self.current / "fullchain.pem").read_bytes())[0].serial_number


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_plan_writes_nothing_on_host_or_laptop(host: Host) -> None:
    run = host.issue(execute=False)
    assert run.predicted
    assert run.changes[0].diff == ("issue a certificate for bot.example.com, 10.0.0.1: there is none",)
    assert run.changes[1].secret
    assert not host.state.exists()
    assert not host.serials.exists()


@pytest.mark.parametrize("mode", ["own-ca", "self-signed"])
def test_certificate_is_issued_once_and_renewed_in_time(host: Host, mode: str) -> None:
    wanted = WANTED.model_copy(update={"mode": mode})
    assert host.issue(wanted).succeeded
    first = host.serial
    assert not host.issue(wanted, days=60).predicted
    assert host.issue(wanted, days=61).changed
    assert host.serial != first
    assert [path.name for path in host.serials.iterdir()] == [f"{host.serial:x}"]
    assert stat.S_IMODE((host.current / "privkey.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE(host.serials.stat().st_mode) == 0o755
    assert not host.issue(wanted, days=61).predicted


def test_chain_and_key_are_switched_with_one_link(host: Host) -> None:
    host.issue()
    before = host.current.readlink()
    host.issue(WANTED.model_copy(update={"names": ("other.example.com",)}))
    assert host.current.is_symlink()
    assert host.current.readlink() != before


def test_interrupted_installation_is_completed_by_the_next_run(host: Host, tmp_path: Path) -> None:
    """Its folder and its link may lie there. A provided certificate has the same serial again."""
    other = Host(tmp_path / "elsewhere")
    other.current.parent.mkdir()
    other.issue()
    pair = {name: SecretStr((other.current / f"{name}.pem").read_text()) for name in ("fullchain", "privkey")}
    provided = ProvidedSettings(certificate=pair["fullchain"], key=pair["privkey"])
    wanted = WANTED.model_copy(update={"mode": "provided", "provided": provided})
    unfinished = host.serials / f"{other.serial:x}"
    unfinished.mkdir(parents=True)
    (unfinished / "fullchain.pem").write_text("half")
    Path(f"{host.current}.new").symlink_to(unfinished)
    assert host.issue(wanted).succeeded
    assert host.serial == other.serial
    (host.current / "privkey.pem").chmod(0o644)
    assert host.issue(wanted).changed
    assert stat.S_IMODE((host.current / "privkey.pem").stat().st_mode) == 0o600
    assert len(list(host.serials.iterdir())) == 1
    assert not host.issue(wanted).predicted


def test_key_is_in_no_log_command_or_change(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("pyinfra").propagate = True
    run = host.issue()
    assert "Running command" in caplog.text
    for key in (host.current / "privkey.pem", host.state / "ca" / "ca.key"):
        secret = key.read_text().splitlines()[1][:40]
        text = caplog.text + repr(run) + "".join(command.get_raw_value() for command in run.commands)
        assert secret not in text
        assert "PRIVATE KEY" not in text


def test_self_signed_certificate_is_remembered_as_trusted(host: Host) -> None:
    wanted = WANTED.model_copy(update={"mode": "self-signed"})
    host.issue(wanted)
    pinned = host.state / "tls" / "@local.pem"
    assert pinned.read_bytes() == (host.current / "fullchain.pem").read_bytes()
    pinned.unlink()
    assert not host.issue(wanted).changed
    assert pinned.exists(), "another laptop learns it from the host"


def test_internal_certificate_is_signed_by_the_project_and_fits_both_sides(host: Host) -> None:
    names = ("db1", "10.0.0.9")
    folder = str(host.current)

    def issue() -> Run:
        machine = Machine({"supplies": {"state_folder": str(host.state)}})
        return machine.run(lambda: deploy.internal(folder, "shop", names, owner=OWN["owner"]))

    assert issue().succeeded
    assert not issue().predicted
    authority = (host.state / "ca" / "ca.pem").read_bytes()
    assert (host.current / "ca.pem").read_bytes() == authority
    leaf, signer = x509.load_pem_x509_certificates((host.current / "fullchain.pem").read_bytes())
    leaf.verify_directly_issued_by(signer)
    assert signer == x509.load_pem_x509_certificate(authority)
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usage) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    for name in ("fullchain.pem", "privkey.pem", "ca.pem"):
        file = host.current / name
        assert (file.owner(), stat.S_IMODE(file.stat().st_mode)) == (
            OWN["owner"],
            0o600 if name == "privkey.pem" else 0o644,
        )


def test_rotation_without_outage_trusts_both_authorities_before_it_signs_again(host: Host) -> None:
    host.issue()
    first, old = host.serial, (host.state / "ca" / "ca.pem").read_bytes()
    (host.state / "ca").rename(host.state / "ca.old")
    planned = host.issue(rotation=Rotation((old,), introducing=True), execute=False)
    assert [change.diff for change in planned.changes] == [("trust the new authority as well",)]
    assert not (host.state / "ca").exists()
    assert host.issue(rotation=Rotation((old,), introducing=True)).succeeded
    new = (host.state / "ca" / "ca.pem").read_bytes()
    assert (host.serial, host.trusted) == (first, new + old)
    assert not host.issue(rotation=Rotation((old,), introducing=True)).predicted
    assert "another authority signed it" in host.issue(rotation=Rotation((old,))).changes[0].diff[0]
    assert host.serial != first
    assert host.trusted == new + old
    assert not host.issue(rotation=Rotation((old,))).predicted
    last = host.issue()
    assert [change.diff for change in last.changes] == [("trust the authority alone",)]
    assert host.trusted == new
    assert not host.issue().predicted


def test_certificate_that_expires_during_a_rotation_is_signed_by_the_new_authority(host: Host) -> None:
    host.issue()
    old = (host.state / "ca" / "ca.pem").read_bytes()
    (host.state / "ca").rename(host.state / "ca.old")
    assert host.issue(rotation=Rotation((old,), introducing=True), days=90).succeeded
    leaf = x509.load_pem_x509_certificates((host.current / "fullchain.pem").read_bytes())[0]
    leaf.verify_directly_issued_by(
        x509.load_pem_x509_certificate((host.state / "ca" / "ca.pem").read_bytes())
    )


def test_authorities_next_to_a_certificate_that_were_changed_are_restored(host: Host) -> None:
    host.issue()
    (host.current / "ca.pem").write_text("another's\n")
    assert host.issue().changed
    assert host.trusted == (host.state / "ca" / "ca.pem").read_bytes()
