"""The listener for other hosts: TLS for clients with a certificate of the project's authority."""

from __future__ import annotations

import json
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from clawd_runtime.bot.settings import load_settings
from clawd_runtime.errors import SettingsError
from tests.bot.program import Program, free_port
from tests.standins.plain_http import NO_TLS


class Authority:
    """The certificate authority of one test."""

    def __init__(self, name: str) -> None:
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._signed(self._name, self._key, authority=True)

    def issue(self, folder: Path) -> tuple[Path, Path]:
        """Write a certificate for 127.0.0.1 and its key; return both paths."""
        folder.mkdir(exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = self._signed(x509.Name([]), key, authority=False)
        certificate_path, key_path = folder / "leaf.pem", folder / "leaf.key"
        certificate_path.write_bytes(leaf.public_bytes(Encoding.PEM))
        key_path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return certificate_path, key_path

    def _signed(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, authority: bool
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]),
                critical=not authority,
            )
            .sign(self._key, hashes.SHA256())
        )


@pytest.fixture(scope="module")
def ours() -> Authority:
    return Authority("ours")


def program(folder: Path, authority: Authority, port: int, **changes: object) -> Program:
    certificate, key = authority.issue(folder / "server")
    credentials = {
        "console-jwt-secret": "0123456789abcdef0123456789abcdef",
        "internal-certificate": certificate.read_text(),
        "internal-key": key.read_text(),
        "internal-authority": authority.certificate.public_bytes(Encoding.PEM).decode(),
    }
    internal = {"host": "127.0.0.1", "port": port}
    return Program(folder, "http://127.0.0.1:9", {"console": {}}, credentials, internal=internal, **changes)


def context(authority: Authority, client: tuple[Path, Path] | None) -> ssl.SSLContext:
    made = ssl.create_default_context(cadata=authority.certificate.public_bytes(Encoding.PEM).decode())
    if client:
        made.load_cert_chain(*client)
    return made


def test_internal_listener_accepts_only_signed_clients(tmp_path: Path, ours: Authority) -> None:
    port = free_port()
    url = f"https://127.0.0.1:{port}/metrics"
    with program(tmp_path, ours, port) as bot:
        bot.start()
        bot.wait_alive()
        known = context(ours, ours.issue(tmp_path / "client"))
        answer = httpx.get(url, verify=known, trust_env=False)
        assert (answer.status_code, "clawd_inbox_depth" in answer.text) == (200, True)
        stranger = context(ours, Authority("theirs").issue(tmp_path / "stranger"))
        for refused in (context(ours, None), stranger):
            with pytest.raises(httpx.TransportError):
                httpx.get(url, verify=refused, trust_env=False)
        with pytest.raises(httpx.TransportError):
            httpx.get(url.replace("https", "http"), trust_env=False, verify=NO_TLS)
        assert bot.terminate() == 0
    log = bot.log.read_text()
    assert f"listening on 127.0.0.1:{port} with TLS" in log
    assert "Traceback" not in log


def test_bot_listens_on_further_addresses_with_and_without_tls(tmp_path: Path, ours: Authority) -> None:
    port, secured, plain = (free_port() for _ in range(3))
    further = [
        {"host": "127.0.0.1", "port": secured, "tls": True},
        {"host": "127.0.0.1", "port": plain, "tls": False},
    ]
    with program(tmp_path, ours, port, further=further) as bot:
        bot.start()
        bot.wait_alive()
        known = context(ours, ours.issue(tmp_path / "client"))
        for number in (port, secured):
            assert httpx.get(f"https://127.0.0.1:{number}/healthz", verify=known, trust_env=False).is_success
            with pytest.raises(httpx.TransportError):
                httpx.get(f"https://127.0.0.1:{number}/healthz", verify=context(ours, None), trust_env=False)
        assert httpx.get(f"http://127.0.0.1:{plain}/healthz", trust_env=False, verify=NO_TLS).is_success
        assert bot.terminate() == 0


def test_further_place_with_tls_needs_the_internal_listener(tmp_path: Path) -> None:
    file = tmp_path / "bot.json"
    settings = {
        "database": "sqlite:////tmp/x",
        "models": {"default": {"endpoint": "http://127.0.0.1:9", "model": "m"}},
        "further": [{"port": 9444, "tls": True}],
    }
    file.write_text(json.dumps(settings))
    with pytest.raises(SettingsError, match="tls requires `internal`"):
        load_settings(file)


def test_old_tls_versions_are_refused(tmp_path: Path, ours: Authority) -> None:
    port = free_port()
    with program(tmp_path, ours, port) as bot:
        bot.start()
        bot.wait_alive()
        old = context(ours, ours.issue(tmp_path / "client"))
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"https://127.0.0.1:{port}/healthz", verify=old, trust_env=False)


@pytest.mark.parametrize("name", ["internal-certificate", "internal-key", "internal-authority"])
def test_invalid_certificate_prevents_start(tmp_path: Path, ours: Authority, name: str) -> None:
    with program(tmp_path, ours, free_port()) as bot:
        (tmp_path / "credentials" / name).write_text("no PEM")
        assert bot.start().wait(20.0) == 2
    log = bot.log.read_text()
    assert "the internal listener's certificate in" in log
    assert "Traceback" not in log
