"""Host names, addresses, URLs, images: what is taken, and that other programs read them alike."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from inventory import addresses
from inventory.addresses import is_address, is_host_name, normal_address, split_host_and_port
from inventory.values import ValueProblem

Check = Callable[[str], ValueProblem]
many = settings(max_examples=300, deadline=None)

NASTY = "\n\r\t\x00\x1b\x7f\x85\u2028\u200b\u202e \"'\\`{}<>|^$%;é中"
GOOD: dict[str, tuple[Check, list[str]]] = {
    "endpoint": (
        addresses.check_endpoint,
        [
            "https://x.openai.azure.com/openai/deployments/gpt-4o?api-version=2024-10-21",
            "https://llm.example.com/v1",
            "https://llm.example.com/v1/",
            "https://llm.example.com/v1?monkey=1&keyed=no&max_tokens=5",
            "http://10.0.0.5:8000/v1",
            "http://[2001:db8::5]:8000/v1",
            "https://llm.example.com",
            "https://llm.example.com/v1/%E4%B8%AD",
            "http://localhost:11434/v1",
            "https://dashscope.aliyuncs.com/compatible-mode/v1",
        ],
    ),
    "server": (addresses.check_server, ["https://api.telegram.org", "http://tg:8081/base/"]),
    "download": (
        addresses.check_download,
        [
            "https://huggingface.co/a/b/resolve/main/m.gguf?download=true",
            "https://s3.example/m.gguf?X-Sig=a%2Fb",
        ],
    ),
    "acme": (addresses.check_directory, ["https://acme-v02.api.letsencrypt.org/directory"]),
    "repository": (
        addresses.check_repository,
        [
            "https://artifacts.elastic.co/packages/9.x/apt",
            "http://mirror.example:8081/debian/",
            "http://[::1]/x",
        ],
    ),
    "mirror": (addresses.check_site, ["https://mirror.example.com", "http://10.0.0.9:5000/"]),
    "proxy": (addresses.check_proxy, ["http://proxy.example.com:3128", "http://[2001:db8::1]:3128/"]),
    "unproxied": (
        addresses.check_unproxied,
        [
            "registry.internal",
            ".example.com",
            "*.example.com",
            "10.0.0.0/8",
            "10.0.0.5/8",
            "2001:db8::/32",
            "2001:db8::1/32",
            "10.0.0.1",
            "*",
            ".example.com:8443",
            "registry.internal:5000",
            "[2001:db8::1]:443",
        ],
    ),
    "image": (
        addresses.check_image,
        [
            "python:3.11",
            "registry.internal:5000/team/python:3.11-slim",
            "team/python",
            "python",
            f"python@sha256:{'ab' * 32}",
            f"r.internal/python:3.11@sha256:{'ab' * 32}",
            "localhost/a",
        ],
    ),
    "registry": (
        addresses.check_registry,
        [
            "registry.internal/bots",
            "registry.internal:5000",
            "team",
            "localhost:5000/a/b_c",
            "10.0.0.9:5000/x",
        ],
    ),
    "host": (
        addresses.check_host,
        ["bot1", "bot.example.com", "192.0.2.1", "2001:db8::1", "xn--bcher-kva.example"],
    ),
    "certificate": (addresses.check_certificate_name, ["bot.example.com", "*.example.com", "192.0.2.1"]),
    "resolver": (
        addresses.check_host_and_port,
        ["10.0.0.2", "10.0.0.2:53", "ns.example.com:53", "[::1]:53", "::1"],
    ),
    "mail": (addresses.check_mail, ["ops@example.com", "ops+acme@example.co.uk", "o'brien@example.com"]),
    "database": (
        addresses.check_database_url,
        [
            "postgresql://clawd@db.example.com/clawd",
            "postgresql://clawd@db.example.com:6432/clawd?sslmode=require",
            "postgresql://c@[2001:db8::1]:5432/c",
            "postgresql://c@db/c?sslmode=verify-full&sslrootcert=/etc/ca.pem",
        ],
    ),
}
BAD: dict[str, tuple[Check, list[str]]] = {
    "endpoint": (
        addresses.check_endpoint,
        [
            "https://llm.example.com/v1/chat/completions",
            "https://llm.example.com/v1/chat/completions?api-version=1",
            "https://user:pw@llm.example.com/v1",
            "https://user@llm.example.com/v1",
            "https://llm.example.com/v1?key=pw",
            "https://llm.example.com/v1?api-version=1&api_key=pw",
            "https://llm.example.com/v1?Subscription-Key=pw",
            "https://llm.example.com/v1?access_token=pw",
            "https://llm.example.com/v1#part",
            "https://llm.example.com/v 1",
            "https://llm.example.com/v%1",
            "https://llm.example.com/../v1",
            "https://llm.example.com//v1",
            "https://llm.example.com:0/v1",
            "https://llm.example.com:65536/v1",
            "https://llm.example.com:0443/v1",
            "https://llm.example.com:/v1",
            "https://llm.example.com./v1",
            "https://llm_1.example.com/v1",
            "https://bücher.example/v1",
            "https://2001:db8::1/v1",
            "https://[2001:db8::1%25eth0]/v1",
            "https://[bot.example.com]/v1",
            "https://300.1.1.1/v1",
            "https://0x7f.1/v1",
            "https://0.0.0.0/v1",
            "https:///v1",
            "https:/llm.example.com",
            "llm.example.com/v1",
            "ftp://llm.example.com/v1",
            "HTTPS://llm.example.com/v1 ",
            "https://llm.example.com/{{ x }}",
            "https://llm.example.com/v1\nX=1",
            "https://" + "a" * 64 + ".example",
            "",
        ],
    ),
    "server": (addresses.check_server, ["https://api.telegram.org?x=1", "https://"]),
    "acme": (addresses.check_directory, ["http://acme.example/directory"]),
    "repository": (
        addresses.check_repository,
        [
            "https://mirror.example/debian?x=1",
            "https://mirror.example/$(ARCH)",
            "https://m.example/[x]",
            "https://mirror.example/a b",
            "https://mirror.example/%20",
        ],
    ),
    "mirror": (
        addresses.check_site,
        [
            "https://mirror.example.com/hub",
            "https://mirror.example.com?ns=docker.io",
            "https://mirror.example.com/?x",
            "mirror.example.com",
            "https://u:p@mirror.example.com",
            "https://mirror.example.com/#x",
        ],
    ),
    "proxy": (addresses.check_proxy, ["http://proxy:3128/path", "socks5://proxy:1080", "proxy:3128"]),
    "unproxied": (
        addresses.check_unproxied,
        [
            "a,b",
            "10.0.0.0/33",
            "a\nHTTP_PROXY=http://evil",
            "a b",
            "",
            "http://a",
            "*x.com",
            "*.",
            ".",
            "*..x.com",
            ".10.0.0.1",
            "*.10.0.0.1",
            "fe80::1%eth0",
            "fe80::1%eth0/64",
            "10.0.0.0/255.0.0.0",
            "10.0.0.0/08",
            "10.0.0/8",
            "a:0",
            "a:x",
        ],
    ),
    "image": (
        addresses.check_image,
        [
            "Python:3",
            "python:",
            "python@sha256:ab",
            "https://r.internal/a",
            "r.internal/A:1",
            "a//b",
            "a b",
            "-a",
            "a$b",
            f"python@sha256:{'ab' * 32}x",
        ],
    ),
    "registry": (
        addresses.check_registry,
        ["https://r.internal", "r.internal/", "r.internal:0", "R/x", "a b", ""],
    ),
    "host": (
        addresses.check_host,
        [
            "bot.example.com.",
            "fe80::1%eth0",
            "010.0.0.1",
            "1.2.3",
            "-a",
            "a-",
            "a..b",
            "bücher.example",
            "a b",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "ff02::1",
            "[::1]",
            "a:22",
            "root@a",
            "https://a",
            "a" * 254,
            "",
            "a\n",
        ],
    ),
    "certificate": (
        addresses.check_certificate_name,
        ["*.*.example.com", "a.*.example.com", "*", "a.example.com."],
    ),
    "resolver": (
        addresses.check_host_and_port,
        ["10.0.0.2:0", "10.0.0.2:65536", "[10.0.0.2]:53", "::1:53x", ":53"],
    ),
    "mail": (
        addresses.check_mail,
        [
            "ops",
            "@example.com",
            "ops@",
            "a@b@c",
            "a b@example.com",
            "-x@example.com",
            ".a@b.c",
            "a..b@c.d",
            "a@b.c\n",
        ],
    ),
    "database": (
        addresses.check_database_url,
        [
            "postgresql://clawd:pw@db/clawd",
            "postgresql://clawd@db/clawd?password=x",
            "postgres://clawd@db/clawd",
            "postgresql://db.example.com/clawd",
            "postgresql://clawd@db",
            "postgresql://clawd@db:99999/clawd",
            "postgresql://clawd@db/clawd?sslmode=on",
            "postgresql://clawd@db/clawd?host=other",
            "postgresql://a@b,c/d",
            "postgresql://clawd@db:0/clawd",
            "postgresql://clawd@db/cl%0aawd",
            "postgresql://clawd@db/clawd#x",
        ],
    ),
}


@pytest.mark.parametrize(
    ("kind", "text"), [(kind, text) for kind, (_, texts) in GOOD.items() for text in texts]
)
def test_valid_addresses_are_accepted(kind: str, text: str) -> None:
    assert GOOD[kind][0](text) is None


@pytest.mark.parametrize(
    ("kind", "text"), [(kind, text) for kind, (_, texts) in BAD.items() for text in texts]
)
def test_invalid_addresses_are_refused_with_problem_and_hint(kind: str, text: str) -> None:
    verdict = BAD[kind][0](text)
    assert verdict is not None
    problem, advice = verdict
    assert problem
    assert advice
    assert "pw" not in problem + advice
    assert "\n" not in problem + advice


@pytest.mark.parametrize(
    ("kind", "text"), [(kind, text) for kind, (_, texts) in GOOD.items() for text in texts]
)
def test_addresses_with_special_characters_of_configuration_files_are_refused(kind: str, text: str) -> None:
    check = GOOD[kind][0]
    for letter in NASTY:
        for place in (0, len(text) // 2, len(text)):
            spoilt = text[:place] + letter + text[place:]
            if check(spoilt) is None:
                # RFC 3986 and RFC 5321 let these stand in a path, a query, or a name.
                assert letter in "'$;%`{}|^", (letter, spoilt)
                assert kind in ("endpoint", "server", "download", "acme", "mail"), (letter, spoilt)
                assert letter in "'$;%" or kind == "mail"


@pytest.mark.parametrize(
    ("check", "text", "advice"),
    [
        (addresses.check_host, "bücher.example", "write the name in ASCII: xn--bcher-kva.example"),
        (addresses.check_host, "bot.example.com.", "write it without the dot at the end"),
        (addresses.check_host, "fe80::1%eth0", "write the address without `%` and what follows it"),
        (
            addresses.check_host,
            "https://bot",
            "write the name or the address alone, without the scheme and `//`",
        ),
        (
            addresses.check_endpoint,
            "https://bücher.example/v1",
            "write the name in ASCII: xn--bcher-kva.example",
        ),
        (
            addresses.check_endpoint,
            "https://b.example/é",
            "percent-encode non-ASCII characters: `é` is %C3%A9",
        ),
        (addresses.check_site, "https://m.example?x=1", "write it like https://mirror.example.com"),
        (addresses.check_proxy, "socks5://proxy:1080", "write it like http://proxy.example.com:3128"),
    ],
)
def test_hint_fits_the_mistake_in_the_address(check: Check, text: str, advice: str) -> None:
    verdict = check(text)
    assert verdict is not None
    assert verdict[1] == advice


labels = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9-]{0,8}[A-Za-z0-9])?", fullmatch=True)
names = st.lists(labels, min_size=1, max_size=4).map(".".join)
literals = st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).map(lambda address: f"[{address}]")
ports = st.just("") | st.integers(0, 70000).map(lambda port: f":{port}")
pieces = st.text(st.sampled_from("abcXYZ019-._~/%:@!$&'()*+,;=?# \\\n{}é"), max_size=12)


@many
@given(st.sampled_from(["http", "https"]), names | literals, ports, pieces)
def test_httpx_and_urllib_parse_an_endpoint_alike(scheme: str, host: str, port: str, rest: str) -> None:
    text = f"{scheme}://{host}{port}/{rest}"
    if addresses.check_endpoint(text) is not None:
        return
    ours, theirs = urlsplit(text), httpx.URL(text)
    assert theirs.scheme == scheme
    assert theirs.host.lower() == (ours.hostname or "").lower()
    assert theirs.port == (None if ours.port == {"http": 80, "https": 443}[scheme] else ours.port)
    assert theirs.raw_path.decode() == ours.path + (f"?{ours.query}" if "?" in text else "")
    assert theirs.userinfo == b""
    assert theirs.fragment == ""


@many
@given(names | literals.map(lambda text: text.strip("[]")) | pieces)
def test_accepted_host_is_either_name_or_address_and_idna_keeps_it(text: str) -> None:
    if addresses.check_host(text) is not None:
        return
    assert is_address(text) != is_host_name(text)
    if is_host_name(text):
        assert text.encode("ascii").decode() == text
        assert httpx.URL(f"http://{text}/").host == text.lower()
    assert normal_address(normal_address(text)) == normal_address(text)


@many
@given(names | literals | pieces, ports)
def test_split_host_and_port_inverts_joining(host: str, port: str) -> None:
    parts = split_host_and_port(host + port)
    number = int(port[1:]) if port else 0
    if addresses.check_host(host.strip("[]")) is None and 1 <= number <= 65535:
        assert parts == (host.strip("[]"), number)
    elif parts is not None:
        assert addresses.check_host(parts[0]) is None
        assert parts[1] is None or 1 <= parts[1] <= 65535


logins = st.from_regex(r"[a-z_][a-z0-9_.-]{0,10}", fullmatch=True) | pieces


@many
@given(logins, names | literals, ports, st.from_regex(r"[a-z_][a-z0-9_-]{0,10}", fullmatch=True) | pieces)
def test_psycopg_parses_a_database_url_alike(login: str, host: str, port: str, name: str) -> None:
    text = f"postgresql://{login}@{host}{port}/{name}"
    if addresses.check_database_url(text) is not None:
        return
    read = conninfo_to_dict(text)
    assert read.pop("user") == login
    assert read.pop("host") == host.strip("[]")
    assert read.pop("port", None) == (port[1:] or None)
    assert read.pop("dbname") == name.partition("?")[0]
    assert read.keys() <= addresses.DATABASE_OPTIONS.keys()
