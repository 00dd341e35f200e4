"""Checks of host names, addresses, URLs, images and mail addresses.

A value that passes is read the same way by all programs that use it: nginx, apt, dockerd, systemd,
PostgreSQL, HTTP clients in Go and in Python. Each check returns what is wrong with a value and a hint, or
`None`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

from inventory.values import ValueProblem, check_line
from inventory.wording import shown

_LABEL = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)")
_ALIAS = re.compile(r"(?=[^_]*_)[A-Za-z0-9_][A-Za-z0-9._-]{0,62}")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_URL = re.compile(r"(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*")
"""The characters of a URL (RFC 3986)."""
_PLACE = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:]+)(:(?P<port>.*))?")
_SECRET_OPTION = re.compile(
    r"&(?:x-)?(?:api|access|auth|subscription|secret)?[_-]?(?:key|token|secret|password|sig|signature)=",
    re.IGNORECASE,
)
"""Names of query parameters that providers use for a key."""
_REPOSITORY_PATH = re.compile(r"[A-Za-z0-9._~/+-]*")
"""Excludes what apt interprets: variables such as `$(ARCH)`, and brackets, which enclose options."""
_BLOCK = re.compile(r"[0-9A-Fa-f.:]+/(0|[1-9][0-9]{0,2})")
"""A network in CIDR notation; Go does not support masks."""
_MAIL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~][A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{0,63}")
# Names of images: https://pkg.go.dev/github.com/distribution/reference
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_FOLDERS = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_DATABASE = re.compile(r"/[A-Za-z0-9_-]{1,63}")
_LOGIN = re.compile(r"[A-Za-z0-9_.-]{1,63}")
RESERVED_DOMAINS = frozenset(
    ("alt", "corp", "example", "home", "internal", "invalid", "lan", "local", "localdomain", "localhost",
     "mail", "onion", "test")
)  # fmt: skip
"""Top-level domains that no public authority signs: reserved (RFC 6761 and later) or excluded (ICANN)."""
DATABASE_OPTIONS = {
    "sslmode": re.compile(r"disable|allow|prefer|require|verify-ca|verify-full"),
    "sslrootcert": re.compile(r"system|/[A-Za-z0-9._/-]+"),
    "connect_timeout": re.compile(r"[1-9][0-9]{0,3}"),
    "target_session_attrs": re.compile(r"any|read-write|primary"),
}
"""The parameters of libpq that a database URL may have, with their values."""


def is_address(text: str) -> bool:
    """Return whether `text` is an IP address without a scope (`%eth0`)."""
    try:
        return getattr(ip_address(text), "scope_id", None) is None
    except ValueError:
        return False


def is_host_name(text: str) -> bool:
    """Return whether `text` is a host name (RFC 1123): in ASCII, without a trailing dot."""
    labels = text.split(".")
    numeric = labels[-1].isdigit() or re.fullmatch(r"0[xX][0-9A-Fa-f]*", labels[-1])
    return len(text) <= 253 and all(map(_LABEL.fullmatch, labels)) and not numeric


def check_host(text: str) -> ValueProblem:
    """Check an IP address or a host name of another machine."""
    if is_address(text):
        return _usable(text)
    if is_host_name(text):
        return None
    return f"{shown(text)} is not an address", _host_advice(text)


def check_ssh_host(text: str) -> ValueProblem:
    """Check an IP address, a host name, or an alias of ssh_config(5), which may contain `_`."""
    return None if _ALIAS.fullmatch(text) else check_host(text)


def _usable(text: str) -> ValueProblem:
    address = ip_address(text)
    if address.is_unspecified or address.is_multicast or text == "255.255.255.255":
        return f"{text} is not the address of a single machine", "write the machine's own address"
    return None


def _host_advice(text: str) -> str:
    if "@" in text:
        return "write the login as `user:` and the address without it"
    if "://" in text:
        return "write the name or the address alone, without the scheme and `//`"
    if text.startswith("["):
        return "write an IPv6 address without brackets, the port as `port:`"
    if re.search(r":[0-9]+$", text) and text.count(":") == 1:
        return "write the port as `port:` and the address without it"
    return advice if (advice := _name_advice(text)) else "write an IP address or a host name"


def _name_advice(text: str) -> str:
    """Return how to correct an invalid name; empty when that is unknown."""
    if text.endswith(".") and is_host_name(text[:-1]):
        return "write it without the dot at the end"
    if "%" in text and is_address(text.partition("%")[0]):
        return "write the address without `%` and what follows it"
    if not text.isascii() and (ascii_form := _in_ascii(text)):
        return f"write the name in ASCII: {ascii_form}"
    if "_" in text and is_host_name(text.replace("_", "-")):
        return "write its IP address, or a host name without `_`"
    return ""


def _in_ascii(text: str) -> str:
    """Return a non-ASCII name in its form for DNS (RFC 3490); empty when it has none."""
    try:
        name = text.encode("idna").decode("ascii")
    except UnicodeError:
        return ""
    return name if is_host_name(name) else ""


def check_certificate_name(text: str) -> ValueProblem:
    """Check a name of a certificate: host name, `*.domain` or IP address."""
    if is_address(text):
        return _usable(text)
    if is_host_name(text.removeprefix("*.")):
        return None
    return (
        f"{shown(text)} is not a name for a certificate",
        _name_advice(text.removeprefix("*.")) or "write a host name, `*.example.com` or an IP address",
    )


def check_host_and_port(text: str) -> ValueProblem:
    """Check `ADDRESS` or `ADDRESS:PORT`; an IPv6 address with a port must be in brackets."""
    if split_host_and_port(text) is None:
        return f"{shown(text)} is not ADDRESS:PORT", "write it like 10.0.0.2:53, or [2001:db8::2]:53"
    return None


def split_host_and_port(text: str) -> tuple[str, int | None] | None:
    """Return the two parts of `ADDRESS[:PORT]`; `None` when `text` is invalid."""
    if check_host(text) is None:
        return text, None
    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if ":" not in host:
            return None
    elif ":" in host:
        return None
    if check_host(host) is not None or not _PORT.fullmatch(port) or int(port) > 65535:
        return None
    return host, int(port)


@dataclass(frozen=True, slots=True)
class UrlCheck:
    """A check of URLs of one kind.

    `like` is an example, `path` and `query` allow these parts, `secure` requires https, `ending` is a path
    that is appended later and must not be there already, `plain` excludes characters that apt interprets.
    """

    like: str
    path: bool = True
    query: bool = False
    secure: bool = False
    ending: str = ""
    plain: bool = False

    def __call__(self, text: str) -> ValueProblem:
        """Return what is wrong with `text`, and a hint."""
        parts = _parts(text)
        if parts is None:
            return self._not_an_address(text)
        if parts.username is not None:
            return (
                "this address contains a login",
                "remove the part before `@`; secrets have fields of their own",
            )
        host = parts.hostname or ""
        if check_host(host) is not None:
            return self._not_an_address(text)
        if self.secure and parts.scheme != "https":
            return f"{shown(text)} is not encrypted", "write an address that begins with https://"
        if "#" in text:
            return f"{shown(text)} has a fragment (`#…`), which is never sent", "remove it"
        if self.ending and _SECRET_OPTION.search(f"&{parts.query}"):
            return "this address contains a key in plain text", "remove it, and write it as `api_key:`"
        if "?" in text and not self.query:
            return f"{shown(text)} has a query, which is not allowed here", f"write it like {self.like}"
        if parts.path not in ("", "/") and not self.path:
            return f"{shown(text)} has a path, which is not allowed here", f"write it like {self.like}"
        return self._wrong_path(text, parts.path)

    def _wrong_path(self, text: str, path: str) -> ValueProblem:
        if re.search(r"/\.\.?(/|$)|//", path):
            return f"{shown(text)} has `//`, `/./` or `/../` in its path", "remove it from the path"
        if self.plain and not _REPOSITORY_PATH.fullmatch(path):
            return (
                f"{shown(text)} is not the address of a repository",
                f"use letters, digits, `/`, `.`, `_`, `~`, `+` and `-`, like {self.like}",
            )
        if self.ending and path.rstrip("/").endswith(self.ending):
            return (
                f"this address ends in {self.ending}, which is added automatically",
                f"remove {self.ending}",
            )
        return None

    def _not_an_address(self, text: str) -> ValueProblem:
        advice = "write https://NAME or https://NAME:PORT/path" if self.path and not self.plain else ""
        host = re.sub(r"^https?://([^/?#@]*@)?|[/?#:].*$", "", text)
        advice = _name_advice(host) or advice or f"write it like {self.like}"
        if re.match(r"https?://", text) and " " not in text and not text.isascii() and host.isascii():
            advice = "percent-encode non-ASCII characters: `é` is %C3%A9"
        return f"{shown(text)} is not the address of a server", advice


def _parts(text: str) -> SplitResult | None:
    """Return the parts of an http(s) URL that all programs read the same way; `None` for any other."""
    if not _URL.fullmatch(text) or not re.match(r"https?://[^/]", text) or len(text) > 2000:
        return None
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return None
    written = _PLACE.fullmatch(parts.netloc.rpartition("@")[2])
    if written is None or (
        written["port"] is not None and (not _PORT.fullmatch(written["port"]) or not port)
    ):
        return None
    return parts


check_endpoint = UrlCheck("https://llm.example.com/v1", query=True, ending="/chat/completions")
check_server = UrlCheck("https://api.example.com")
check_download = UrlCheck("https://models.example.com/model.gguf", query=True)
check_directory = UrlCheck("https://acme.example.com/directory", secure=True)
check_repository = UrlCheck("https://mirror.example.com/debian", plain=True)
check_site = UrlCheck("https://mirror.example.com", path=False)
check_proxy = UrlCheck("http://proxy.example.com:3128", path=False)


def check_webhook(text: str) -> ValueProblem:
    """Check the address of a custom bot, which is a secret and not shown."""
    verdict = UrlCheck("https://open.feishu.cn/open-apis/bot/v2/hook/…", secure=True)(text)
    if verdict is None and urlsplit(text).path not in ("", "/"):
        return None
    return (
        "this is not the address of a custom bot",
        "copy it from the group's settings: https://open.feishu.cn/open-apis/bot/v2/hook/…",
    )


def check_unproxied(text: str) -> ValueProblem:
    """Check a destination that is reached without a proxy: name, `.example.com`, address, network, `*`.

    Source: https://pkg.go.dev/golang.org/x/net/http/httpproxy, as dockerd reads NO_PROXY.
    """
    if (verdict := check_line(text)) is not None:
        return verdict
    if text == "*" or _is_unproxied_domain(text) or split_host_and_port(text) is not None:
        return None
    if _BLOCK.fullmatch(text) and is_network(text):
        return None
    return (
        f"{shown(text)} is not a name, an address or a network",
        "write one in each item, such as registry.internal or 10.0.0.0/8",
    )


def _is_unproxied_domain(text: str) -> bool:
    """Return whether `text` is `.DOMAIN` or `*.DOMAIN`, with or without a port."""
    domain = text.removeprefix("*")
    split = split_host_and_port(domain[1:]) if domain.startswith(".") else None
    return split is not None and is_host_name(split[0])


def is_network(text: str) -> bool:
    """Return whether `text` is a network, or an address in one (`10.0.0.5/8`), without a scope."""
    try:
        return is_address(text.partition("/")[0]) and bool(ip_network(text, strict=False))
    except ValueError:
        return False


def check_registry(text: str) -> ValueProblem:
    """Check `HOST[:PORT][/FOLDER]` of an image registry."""
    host, _, folder = text.partition("/")
    elsewhere = "." in host or ":" in host or host == "localhost"
    if elsewhere and _registry_host(host) and (_FOLDERS.fullmatch(folder) or text == host):
        return None
    if not elsewhere and _FOLDERS.fullmatch(text):
        return None
    return (
        f"{shown(text)} is not the name of a registry",
        "write HOST[:PORT] and a folder of lower-case letters, such as registry.internal/bots",
    )


def check_image(text: str) -> ValueProblem:
    """Check the name of an image: `[HOST[:PORT]/]NAME[:TAG][@sha256:DIGEST]`."""
    name, at, digest = text.partition("@")
    before, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        before, colon, tag = name, "", ""
    if (
        check_registry(before) is None
        and ("/" in before or not re.search(r"[.:]", before) or _FOLDERS.fullmatch(before))
        and (not colon or _TAG.fullmatch(tag))
        and (not at or _DIGEST.fullmatch(digest))
    ):
        return None
    return f"{shown(text)} is not the name of an image", "write it like registry.internal/python:3.11-slim"


def _registry_host(text: str) -> bool:
    return split_host_and_port(text) is not None and "[" not in text and text.count(":") <= 1


def check_mail(text: str) -> ValueProblem:
    """Check a mail address (RFC 5321), in ASCII and without quotes."""
    name, at, domain = text.rpartition("@")
    good = (
        at and _MAIL.fullmatch(name) and ".." not in name and not name.endswith(".") and is_host_name(domain)
    )
    return None if good else (f"{shown(text)} is not a mail address", "write it like ops@example.com")


def check_database_url(text: str) -> ValueProblem:
    """Check `postgresql://LOGIN@HOST[:PORT]/DATABASE[?sslmode=…]` without a password. It is not shown."""
    try:
        parts = urlsplit(text)
        complete = bool(parts.hostname) and parts.port != 0
    except ValueError:
        parts, complete = None, False
    if parts is not None and (parts.password is not None or "password=" in parts.query):
        return "this address contains a password", "remove it, and write it as `password: !env NAME`"
    if parts is None or not complete or not _is_database(text, parts):
        return "this is not the address of a database", "write postgresql://LOGIN@NAME:5432/DATABASE"
    for option in filter(None, parts.query.split("&")):
        key, _, value = option.partition("=")
        if key not in DATABASE_OPTIONS:
            return (
                f"this address has the unknown option {shown(key)}",
                f"use one of: {', '.join(DATABASE_OPTIONS)}",
            )
        if not DATABASE_OPTIONS[key].fullmatch(value):
            return f"{shown(value)} is not a value of {key}", "write one that PostgreSQL documents"
    return None


def _is_database(text: str, parts: SplitResult) -> bool:
    name = parts.hostname or ""
    written = _PLACE.fullmatch(parts.netloc.rpartition("@")[2])
    return (
        bool(_URL.fullmatch(text))
        and written is not None
        and parts.scheme == "postgresql"
        and bool(_LOGIN.fullmatch(parts.username or ""))
        and check_host(name) is None
        and (written["port"] is None or bool(_PORT.fullmatch(written["port"])))
        and bool(_DATABASE.fullmatch(parts.path))
        and "#" not in text
    )


def is_of_the_machine_itself(text: str) -> bool:
    """Return whether this address or name refers to every machine itself, or to its own link."""
    if not is_address(text):
        return is_local_name(text)
    address = ip_address(normal_address(text))
    return address.is_loopback or address.is_link_local


def is_local_name(text: str) -> bool:
    """Return whether a host name is local to each machine: `localhost` or below (RFC 6761, section 6.3)."""
    name = text.lower()
    return name.endswith((".localhost", ".localdomain")) or name in (
        *("localhost", "localdomain", "ip6-localhost", "ip6-loopback"),
    )


def is_public_name(text: str) -> bool:
    """Return whether a host name can exist on the internet: below a domain that is not reserved.

    Source: https://www.iana.org/assignments/special-use-domain-names.
    """
    labels = text.lower().removeprefix("*.").split(".")
    reserved = labels[-1] in RESERVED_DOMAINS or labels[-2:] == ["home", "arpa"]
    return len(labels) > 1 and not reserved


def normal_address(text: str) -> str:
    """Return the canonical form of an address: a shortest-form IP address, or a name in lower case."""
    if not is_address(text):
        return text.lower()
    address = ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)
