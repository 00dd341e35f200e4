"""Files of known hosts: read line by line, as `ssh-keygen` and `ssh` read them."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from provision.ssh.known_hosts import KnownHosts, Trust, names_of, read_files, read_lines
from tests.provision.sshd import keygen

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1TrMRtPh1G1NTgXxV9ywGfrfDRKpbHaCfmTyLZCqzm"
OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICw2jSkBWEz4LCyQdpAvvSCPLOCmb7Cv6xCvMO8uDsWE"


def known(text: str | bytes) -> KnownHosts:
    return read_lines(text if isinstance(text, bytes) else text.encode(), "known_hosts")


def blob(line: str) -> bytes:
    return known(f"x {line}\n").entries[0].key


def trust(text: str | bytes, address: str = "h.example", port: int = 22, key: str = KEY) -> Trust:
    return known(text).judge(names_of(address, port), blob(key)).trust


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("h.example ssh-ed25519", "the line is truncated"),
        ("h.example", "the line is truncated"),
        (f"h.example {KEY[:-5]}", "truncated"),
        (f"h.example {KEY[:60]}", "truncated"),
        ("h.example ssh-ed25519 %%%%", "not base64"),
        ("h.example ssh-ed25519 AAAA", "truncated"),
        (f"h.example ssh-rsa {KEY.split()[1]}", "says ssh-rsa, and its key is another type's"),
        (f"@unknown-marker h.example {KEY}", "unknown marker @unknown-marker"),
        ("h.example 1024 35 1437", "a key of SSH protocol 1"),
        ("@revoked", "the line is truncated"),
        (b"h.ex\xff\xfemple ssh-ed25519 \xff", "not base64"),
    ],
)
def test_unreadable_line_is_reported_and_hides_no_other(line: str | bytes, problem: str) -> None:
    raw = line if isinstance(line, bytes) else line.encode()
    text = b"# comment\n\n" + raw + f"\r\nh.example {KEY} a comment\r\n".encode()
    found = known(text)
    assert [one.place for one in found.unreadable] == ["known_hosts:3"]
    assert problem in found.unreadable[0].problem
    assert trust(text) is Trust.TRUSTED


@pytest.mark.parametrize(
    "line",
    [
        f"@cert-authority *.example {OTHER}",
        f"@revoked elsewhere.example {OTHER}",
        "h.example sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIDw=",
        "h2.example ssh-future AAAACnNzaC1mdXR1cmUAAAAEYWJjZA==",
        f"|1|x|y {OTHER}",
        f"|1|{OTHER} {OTHER}",
        f"elsewhere.example {OTHER} \xff\xfe".encode("latin-1"),
        "\t  # an indented comment",
        f"\ufeffelsewhere.example {OTHER}",
    ],
)
def test_line_of_any_kind_hides_no_other(line: str | bytes) -> None:
    raw = line if isinstance(line, bytes) else line.encode()
    assert trust(raw + f"\n  h.example\t{KEY}".encode()) is Trust.TRUSTED


@pytest.mark.parametrize(
    ("names", "address", "port", "expected"),
    [
        ("h.example", "h.example", 22, Trust.TRUSTED),
        ("H.Example", "h.example", 22, Trust.TRUSTED),
        ("other,h.example,10.0.0.1", "10.0.0.1", 22, Trust.TRUSTED),
        ("*.example", "h.example", 22, Trust.TRUSTED),
        ("?.example", "h.example", 22, Trust.TRUSTED),
        ("*.example,!h.example", "h.example", 22, Trust.UNKNOWN),
        ("!h.example,*", "h.example", 22, Trust.UNKNOWN),
        ("!other.example", "h.example", 22, Trust.UNKNOWN),
        ("[h.example]:2222", "h.example", 2222, Trust.TRUSTED),
        ("[h.example]:2222", "h.example", 22, Trust.UNKNOWN),
        ("[*.example]:*", "h.example", 2200, Trust.TRUSTED),
        ("h.example", "h.example", 2222, Trust.TRUSTED),
        ("2001:db8::1", "2001:db8::1", 22, Trust.TRUSTED),
        ("[2001:db8::1]:2222", "2001:db8::1", 2222, Trust.TRUSTED),
        ("h[a-z]example", "hxexample", 22, Trust.UNKNOWN),
    ],
)
def test_names_and_patterns_match_hosts_as_in_ssh(
    names: str, address: str, port: int, expected: Trust
) -> None:
    assert trust(f"{names} {KEY}\n", address, port) is expected


def test_changed_key_is_reported_with_its_line() -> None:
    verdict = known(f"# c\nh.example {OTHER}\n").judge(names_of("h.example", 22), blob(KEY))
    assert (verdict.trust, verdict.place) == (Trust.CHANGED, "known_hosts:2")
    assert trust(f"h.example {OTHER}\nh.example {KEY}\n") is Trust.TRUSTED
    # The line for the port decides, not that for the host on its usual port.
    assert trust(f"[h.example]:2222 {OTHER}\nh.example {KEY}\n", port=2222) is Trust.CHANGED


def test_revoked_key_is_refused_although_it_is_known() -> None:
    text = f"h.example {KEY}\n@revoked * {KEY}\n"
    verdict = known(text).judge(names_of("h.example", 22), blob(KEY))
    assert (verdict.trust, verdict.place) == (Trust.REVOKED, "known_hosts:2")
    assert trust(f"h.example {KEY}\n@revoked elsewhere {KEY}\n@revoked * {OTHER}\n") is Trust.TRUSTED
    declared = known(text).with_declared("h.example", 22, KEY, "`host_key`")
    assert declared.judge(names_of("h.example", 22), blob(KEY)).trust is Trust.REVOKED


def test_declared_key_replaces_known_hosts_of_its_host_only() -> None:
    found = known(f"h.example {OTHER}\n@cert-authority * {OTHER}\nelsewhere {OTHER}\n")
    declared = found.with_declared("h.example", 22, KEY + " comment", "`host_key`")
    assert declared.judge(names_of("h.example", 22), blob(KEY)).trust is Trust.TRUSTED
    assert declared.judge(names_of("h.example", 22), blob(OTHER)).trust is Trust.CHANGED
    assert declared.judge(names_of("elsewhere", 22), blob(OTHER)).trust is Trust.TRUSTED
    assert not declared.has_authority(names_of("h.example", 22))


def test_several_files_are_read_and_unreadable_ones_reported(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text(f"h.example {KEY[:40]}\n")
    second.write_text(f"h.example {KEY}\n")
    found = read_files([first, tmp_path / "absent", tmp_path, second])
    assert found.judge(names_of("h.example", 22), blob(KEY)).trust is Trust.TRUSTED
    assert [one.place for one in found.unreadable] == [f"{first}:1", str(tmp_path)]


LABEL = st.text("ab1-", min_size=1, max_size=3)
NAME = st.lists(LABEL, min_size=1, max_size=3).map(".".join)
PATTERN = st.one_of(
    NAME,
    st.text("ab1.*?", min_size=1, max_size=6),
    st.builds("[{}]:{}".format, NAME, st.sampled_from(["22", "2222", "*"])),
)
NAMES = st.lists(st.one_of(PATTERN, PATTERN.map("!{}".format)), min_size=1, max_size=3).map(",".join)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=NAMES, asked=st.one_of(NAME, st.builds("[{}]:2222".format, NAME)), hashed=st.booleans())
def test_lines_match_the_hosts_that_ssh_keygen_finds(
    tmp_path: Path, names: str, asked: str, hashed: bool
) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(f"{names} {KEY}\n")
    if hashed:
        subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(file)], check=True, capture_output=True)
    found = subprocess.run(["ssh-keygen", "-F", asked, "-f", str(file)], capture_output=True, text=True)
    ours = read_files([file])
    assert any(entry.is_about(asked) for entry in ours.entries) is (found.returncode == 0), file.read_text()


def certificate(folder: Path, *options: str, kind: str = "ed25519") -> tuple[KnownHosts, bytes, bytes]:
    """The files' view of an authority, a host key, and its certificate by `ssh-keygen`."""
    authority, host = keygen(folder / "ca"), keygen(folder / "host", kind)
    command = ["ssh-keygen", "-q", "-s", str(authority), "-I", "id", *options, f"{host}.pub"]
    subprocess.run(command, check=True, capture_output=True)
    line = authority.with_suffix(".pub").read_text()
    signed = (folder / "host-cert.pub").read_text()
    return (
        known(f"@cert-authority *.example {line}"),
        base64.b64decode((folder / "host.pub").read_text().split()[1]),
        base64.b64decode(signed.split()[1]),
    )


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_certificate_of_a_known_authority_is_trusted(tmp_path: Path, kind: str) -> None:
    found, key, signed = certificate(tmp_path, "-h", "-n", "h.example,10.0.0.1", kind=kind)
    assert found.judge(names_of("h.example", 22), key, signed).trust is Trust.TRUSTED
    assert found.judge(names_of("h.example", 2222), key, signed).trust is Trust.TRUSTED
    assert found.judge(names_of("h.elsewhere", 22), key, signed).trust is Trust.UNKNOWN
    assert found.judge(names_of("h.example", 22), key).trust is Trust.UNKNOWN


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("-h", "-n", "other.example"), "it is for other.example"),
        (("-n", "h.example"), "a person's certificate"),
        (("-h", "-n", "h.example", "-V", "20200101:20200102"), "expired"),
        (("-h", "-n", "h.example", "-V", "20990101:20990102"), "not valid yet"),
    ],
)
def test_invalid_certificate_is_refused(tmp_path: Path, options: tuple[str, ...], reason: str) -> None:
    found, key, signed = certificate(tmp_path, *options)
    verdict = found.judge(names_of("h.example", 22), key, signed)
    assert verdict.trust is Trust.BAD_CERTIFICATE
    assert reason in verdict.reason


def test_certificate_with_wrong_signature_or_revoked_authority_is_refused(
    tmp_path: Path,
) -> None:
    found, key, signed = certificate(tmp_path, "-h", "-n", "h.example")
    broken = signed[:-1] + bytes([signed[-1] ^ 1])
    assert found.judge(names_of("h.example", 22), key, broken).trust is Trust.BAD_CERTIFICATE
    authority = (tmp_path / "ca.pub").read_text()
    revoked = found + known(f"@revoked * {authority}")
    assert revoked.judge(names_of("h.example", 22), key, signed).trust is Trust.REVOKED
