"""Texts, sizes, times, packages, paths, keys: what is taken, and that programs read them alike."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_origin
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr, TypeAdapter, ValidationError

from deploys.docker.config import environment
from deploys.docker.settings import DockerSettings
from deploys.ops.debian.sources import stanza
from deploys.topology.addresses import host_and_port
from inventory import types, values
from inventory.dns_providers import check_dns_provider
from inventory.model import Inventory
from inventory.reading.schema_walk import Spot, spot_at
from inventory.sections.channels import Telegram
from inventory.values import ValueProblem, size_in_bytes
from tests.deploys.inventories import inventory

GOOD: dict[str, tuple[Callable[[str], ValueProblem], tuple[str, ...]]] = {
    "line": (values.check_line, ("a", "qwen2.5-72b-instruct", "通义千问", "a $b %c {{ d }}")),
    "text": (values.check_text, ("", "a\n\tb\n", "👩\u200d🚀", "{{ x }} %n ${y}")),
    "zone": (
        values.check_time_zone,
        ("Asia/Shanghai", "Etc/UTC", "Etc/GMT+8", "America/Argentina/Buenos_Aires"),
    ),
    "package": (values.check_package, ("htop", "g++", "libstdc++6", "python3.11", "7zip")),
    "folder": (
        values.check_folder,
        (
            "/srv/clawd",
            "/data",
            "/var/backups/clawd",
            "/var/opt/x",
            "/var/data",
            "/mnt/x.y-z_1",
            "/opt/clawd2",
        ),
    ),
    "docker": (values.check_docker_folder, ("/srv/docker", "/var/lib/docker", "/var/lib/docker/x")),
    "provider": (check_dns_provider, ("exec", "alidns", "cloudflare", "tencentcloud")),
    "device": (
        values.check_device,
        ("auto", "/dev/vdb", "/dev/disk/by-id/nvme-Samsung_SSD_980_S64", "/dev/mapper/a-b"),
    ),
    "file": (values.check_file_name, ("qwen2.5-7b-instruct-q4_k_m.gguf", "a+b.gguf")),
    "key": (
        values.check_sysctl_key,
        ("vm.swappiness", "net.ipv4.conf.eth0/100.rp_filter", "net.ipv6.conf.all.x-y"),
    ),
    "value": (
        values.check_sysctl_value,
        (
            "0",
            "1",
            "-1",
            "4096 87380 6291456",
            "bbr",
            "|/bin/false %p",
            "|/usr/bin/x %p 0022",
            "|/usr/bin/x 0x10 +5 64M 1.5",
            "core.%p",
            "8080,9148-9150",
            "00ff",
        ),
    ),
}
BAD: dict[str, tuple[Callable[[str], ValueProblem], tuple[str, ...]]] = {
    "line": (
        values.check_line,
        ("", " ", " a", "a ", "a\nb", "a\x00", "a\x7f", "a\x85b", "a\u2028b", "a\u202eb", "\ufeffa"),
    ),
    "text": (values.check_text, ("a\x00", "a\rb", "a\x1b[0m", "a\x9bb", "a\u2028b")),
    "zone": (
        values.check_time_zone,
        (
            "localtime",
            "Factory",
            "posixrules",
            "posix/Asia/Shanghai",
            "right/Asia/Shanghai",
            "Mars",
            "asia/shanghai",
            "../etc/passwd",
            "/etc/passwd",
            "Asia",
            "",
            "Asia/",
            "CST6\n",
        ),
    ),
    "package": (
        values.check_package,
        ("htop-", "htop=1", "htop/sid", "Htop", "a", "-y", "lib*", "a b", "htop:i386", "a\n"),
    ),
    "folder": (
        values.check_folder,
        (
            "data",
            "/",
            "/srv",
            "/etc/x",
            "/usr/x",
            "/srv/../etc",
            "/srv/./x",
            "/srv//x",
            "/srv/x/",
            "/var/lib/dpkg",
            "/var/lib/docker",
            "/var/lib/postgresql/x",
            "/var/cache/apt",
            "/var/spool/cron",
            "/var/run/x",
            "/var/lock",
            "/var/log/x",
            "/var/tmp/x",
            "/var/mail",
            "/opt/clawd",
            "/opt/clawd/x",
            "/snap/x",
            "/lib64/x",
        ),
    ),
    "docker": (
        values.check_docker_folder,
        ("/var/lib/dpkg", "/var/lib/docker/../dpkg", "/var/lib/containerd", "/var/cache/apt", "/etc/docker"),
    ),
    "provider": (check_dns_provider, ("nosuch", "Alidns", "manual", "", "alidns ", "../x")),
    "device": (
        values.check_device,
        ("vdb", "/dev/../etc/passwd", "/dev/vdb ", "UUID=5", "/dev", "/dev/", "/dev/a\n"),
    ),
    "file": (
        values.check_file_name,
        ("a b.gguf", "%n.gguf", "{{x}}.gguf", "-a.gguf", ".gguf", "模型.gguf", "a\n.gguf"),
    ),
    "key": (
        values.check_sysctl_key,
        ("vm", "vm.*", "-vm.swappiness", "vm..x", "vm.x.", "vm./x", "vm/x", "vm.x=1", "a b.c", "../x.y"),
    ),
    "value": (
        values.check_sysctl_value,
        (
            "",
            " ",
            "1\n2",
            "1\x00",
            "ü",
            "010",
            "0x10",
            "-08",
            "4096 010",
            "4096 64M",
            "010 0x10",
            "+5",
            "1_000",
            "1.5",
            "64M",
            "10kB",
            "yes",
            "No",
            "TRUE",
        ),
    ),
}


def cases(table: dict[str, tuple[Callable[[str], ValueProblem], tuple[str, ...]]]) -> list[tuple[str, str]]:
    return [(kind, text) for kind, (_, texts) in table.items() for text in texts]


@pytest.mark.parametrize(("kind", "text"), cases(GOOD))
def test_valid_values_are_accepted(kind: str, text: str) -> None:
    assert GOOD[kind][0](text) is None


@pytest.mark.parametrize(("kind", "text"), cases(BAD))
def test_invalid_values_are_refused_with_problem_and_hint(kind: str, text: str) -> None:
    verdict = BAD[kind][0](text)
    assert verdict is not None
    assert all(verdict)
    assert "\n" not in "".join(verdict)


@pytest.mark.parametrize(
    ("kind", "value", "good"),
    [
        (types.Size, "512M", True),
        (types.Size, "0M", False),
        (types.Size, "007M", False),
        (types.Size, "9999999999G", False),
        (types.Size, "1T", False),
        (types.Size, "512M\n", False),
        (types.Size, "512MB", False),
        (types.Size, "-1M", False),
        (types.Size, " 1M", False),
        (types.BodySize, "1m", True),
        (types.BodySize, "0m", False),
        (types.LogSize, "0k", False),
        (types.Duration, "10m", True),
        (types.Duration, "0s", False),
        (types.Duration, "999999d", False),
        (types.TimeOfDay, "03:30", True),
        (types.TimeOfDay, "24:00", False),
        (types.TimeOfDay, "3:30", False),
        (types.Port, 65535, True),
        (types.Port, 0, False),
        (types.Port, 65536, False),
        (types.Network, "10.0.0.0/8", True),
        (types.Network, "fe80::%eth0/64", False),
        (types.SysctlValue, 512, True),
        (types.SysctlValue, "512", True),
        (types.SysctlValue, True, False),
        (types.SysctlValue, 1.5, False),
        (types.SysctlValue, None, False),
    ],
)
def test_values_are_accepted_only_within_their_bounds(kind: Any, value: Any, good: bool) -> None:
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError:
        assert not good
    else:
        assert good


def test_kernel_setting_ignores_quotes_and_repeated_spaces() -> None:
    read = TypeAdapter(types.SysctlValue).validate_python
    assert read(512) == read("512") == "512"
    assert read("4096\t87380  6291456 ") == "4096 87380 6291456"


def test_every_text_field_has_a_type_without_line_breaks() -> None:
    """A plain `str` takes line breaks, and would be two lines in a file on a host lines."""
    loose = [name for name, spot in _texts(Inventory) if not _strict(spot)]
    assert loose == []
    assert len(list(_texts(Inventory))) > 60


def _strict(spot: Spot) -> bool:
    return any(hasattr(limit, "check") or getattr(limit, "pattern", None) for limit in spot.constraints)


def _texts(model: type[BaseModel], seen: frozenset[str] = frozenset()) -> list[tuple[str, Spot]]:
    found: list[tuple[str, Spot]] = []
    for name, info in model.model_fields.items():
        key = info.alias or name
        spot = spot_at(model, {}, (key,))
        assert spot is not None
        found += [(f"{model.__name__}.{key}", spot)] if str in spot.kinds else []
        for kind in spot.kinds:
            if get_origin(kind) is tuple:
                inner = spot_at(model, {key: [""]}, (key, 0))
                found += [(f"{model.__name__}.{key}[]", inner)] if inner and str in inner.kinds else []
            for part in (kind, *get_args(kind)):
                if isinstance(part, type) and issubclass(part, BaseModel) and part.__name__ not in seen:
                    found += _texts(part, seen | {model.__name__})
    return found


any_time = settings(deadline=None)
anything = st.text(max_size=30) | st.from_regex(r"[a-z0-9./_:*-]{1,20}", fullmatch=True)


@any_time
@given(st.lists(anything, max_size=4), anything, st.lists(anything, max_size=3))
@example(["registry.internal\nHTTP_PROXY=http://evil"], "http://proxy:3128", [])
@example(["10.0.0.0/8"], "http://proxy:3128\nLD_PRELOAD=/tmp/x", [])
def test_docker_proxy_settings_add_no_line_to_its_environment_file(
    around: list[str], proxy: str, mirrors: list[str]
) -> None:
    docker = {
        "proxy": f"http://{proxy.removeprefix('http://')}",
        "no_proxy": around,
        "registry_mirrors": mirrors,
    }
    try:
        read = inventory(docker=docker).docker
    except ValidationError:
        return
    text = environment(DockerSettings(proxy=read.proxy, no_proxy=read.no_proxy))
    assert len(text.splitlines()) == 3
    assert [line.partition("=")[0] for line in text.splitlines()] == ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"]


few = settings(max_examples=12, deadline=None, derandomize=True)


@pytest.mark.skipif(not shutil.which("dpkg"), reason="dpkg is not here")
@few
@given(st.from_regex(r"[a-z0-9][a-z0-9+.-]{1,20}", fullmatch=True))
@example("g++")
@example("htop-")
def test_dpkg_accepts_every_accepted_package_name(name: str) -> None:
    if values.check_package(name) is not None:
        assert name.endswith(("-", ".")), name
        return
    done = subprocess.run(["dpkg", "--validate-pkgname", name], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_accepted_time_zone_can_be_loaded() -> None:
    taken = [name for name in available_timezones() if values.check_time_zone(name) is None]
    assert len(taken) > 400
    assert all(ZoneInfo(name).key == name for name in taken)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not here")
@few
@given(st.from_regex(r"([01][0-9]|2[0-3]):[0-5][0-9]", fullmatch=True))
def test_systemd_accepts_every_accepted_time_of_day(time: str) -> None:
    TypeAdapter(types.TimeOfDay).validate_python(time)
    done = subprocess.run(
        ["systemd-analyze", "calendar", f"*-*-* {time}:00"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"Normalized form: *-*-* {time}:00" in done.stdout


@pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="OpenSSH is not here")
@pytest.mark.parametrize(
    ("kind", "bits", "good"),
    [("ed25519", "256", True), ("rsa", "3072", True), ("rsa", "1024", False), ("ecdsa", "521", True)],
)
def test_keys_of_ssh_keygen_are_accepted_and_refused_when_truncated(
    kind: str, bits: str, good: bool, tmp_path: Path
) -> None:
    file = tmp_path / "key"
    command = ["ssh-keygen", "-q", "-t", kind, "-b", bits, "-N", "", "-C", "a comment", "-f", str(file)]
    subprocess.run(command, check=True)
    text = file.with_suffix(".pub").read_text()
    assert (values.check_public_key(text) is None) is good
    encoded = text.split(" ")[1]
    for length in range(0, len(encoded), 7):
        assert values.check_public_key(text.replace(encoded, encoded[:length])) is not None
    for spoilt in (
        f"command=x {text}",
        f"{text}{text}",
        text.replace(" a", "\x00a"),
        f"@cert-authority {text}",
    ):
        assert values.check_public_key(spoilt) is not None


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("useradd"), reason="needs root and useradd")
@few
@given(st.from_regex(r"[a-z_][a-z0-9_-]{0,31}", fullmatch=True))
@example("a" * 32)
@example("_-")
def test_useradd_accepts_every_accepted_operator_name(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    TypeAdapter(types.OperatorName).validate_python(name)
    root = tmp_path_factory.mktemp("etc")
    (root / "etc").mkdir()
    for file in ("passwd", "shadow", "group", "gshadow"):
        (root / "etc" / file).touch()
    done = subprocess.run(
        ["useradd", "--prefix", str(root), "--no-create-home", "--", name],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (root / "etc" / "passwd").read_text().startswith(f"{name}:")


@pytest.mark.skipif(not shutil.which("apt-get"), reason="apt is not here")
@few
@given(
    st.sampled_from(
        [
            "https://mirror.example.com",
            "http://[2001:db8::1]:81/x/",
            "https://m.example/a~b/c+d/9.x",
            "http://10.0.0.9/",
        ]
    )
    | st.from_regex(r"https://[a-z]{1,8}\.example(/[A-Za-z0-9._~+-]{1,8}){0,3}", fullmatch=True)
)
def test_apt_reads_every_accepted_repository_unchanged(
    tmp_path_factory: pytest.TempPathFactory, uri: str
) -> None:
    if not _taken(types.RepositoryUrl, uri):
        return
    file = tmp_path_factory.mktemp("apt") / "a.sources"
    file.write_text(stanza(uri, "stable", ("main",), (), "/etc/apt/keyrings/x.asc"))
    sources = ["-o", f"Dir::Etc::sourcelist={file}", "-o", "Dir::Etc::sourceparts=-"]
    done = subprocess.run(
        ["apt-get", "update", "--print-uris", *sources], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"'{uri.rstrip('/')}/dists/stable/InRelease'"), done.stdout


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("nft"), reason="needs root and nft")
@few
@given(st.lists(st.ip_addresses(v=4) | st.ip_addresses(v=6), min_size=1, max_size=4), st.integers(0, 32))
def test_nft_accepts_every_accepted_network(found: list[Any], length: int) -> None:
    from deploys.firewall.rules import accepting
    from deploys.firewall.settings import FirewallSettings

    texts = [f"{address}/{length}" for address in found]
    networks = [str(network) for text in texts if (network := _masked(text))]
    read = FirewallSettings.model_validate({"management": networks})
    rules = "\n".join(accepting(read, [22], {}))
    text = f"table inet t {{ chain input {{ type filter hook input priority 0;\n{rules}\n}}\n}}\n"
    done = subprocess.run(["nft", "-c", "-f", "-"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + text


NGINX = os.environ.get("CLAWD_TEST_NGINX") or shutil.which("nginx", path="/usr/sbin:/usr/bin")


@pytest.mark.skipif(not NGINX or not Path(NGINX).exists(), reason="nginx is not here")
@few
@given(
    st.ip_addresses(v=4) | st.ip_addresses(v=6),
    st.integers(1, 65535),
    st.from_regex(r"[1-9][0-9]{0,5}[km]", fullmatch=True),
    st.ip_addresses(v=4) | st.ip_addresses(v=6),
    st.integers(0, 32),
)
def test_nginx_accepts_every_accepted_address_size_and_network(
    tmp_path_factory: pytest.TempPathFactory, bot: Any, port: int, size: str, client: Any, length: int
) -> None:

    if not (_taken(types.HostAddress, str(bot)) and _taken(types.BodySize, size)):
        return
    folder = tmp_path_factory.mktemp("nginx")
    file = folder / "nginx.conf"
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    file.write_text(
        f"pid {folder}/pid;\nevents {{}}\nhttp {{\naccess_log off;\n{temporary}client_max_body_size {size};\n"
        f"upstream bots {{ server {host_and_port(str(bot), port)}; }}\n"
        f"server {{ listen unix:{folder}/s; location / {{ allow {_masked(f'{client}/{length}')}; deny all; "
        "proxy_pass http://bots; } }\n}\n"
    )
    command = [str(NGINX), "-t", "-q", "-e", "stderr", "-p", str(folder), "-c", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _masked(text: str) -> Any:
    from ipaddress import ip_interface

    return ip_interface(text).network


@any_time
@given(st.integers(1, 999_999_999), st.sampled_from("KMG"))
def test_every_accepted_size_fits_63_bits(number: int, unit: str) -> None:
    size = f"{number}{unit}"
    assert _taken(types.Size, size)
    assert 0 < size_in_bytes(size) < 1 << 63


def _taken(kind: Any, value: Any) -> bool:
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return False
    return True


def test_secret_fields_are_not_among_text_fields() -> None:
    """They are checked by `inventory.rules.secrets`, which knows every one of them."""
    token = spot_at(Telegram, {}, ("token",))
    assert token is not None
    assert SecretStr in token.kinds
    texts = list(_texts(Inventory))
    assert len(texts) > 60
    assert not [name for name, spot in texts if SecretStr in spot.kinds]
