"""Settings of the user's `~/.ssh/config`, as the `ssh` program reads them.

`ssh -G` prints what holds for one destination, with `Include`, `Match`, tokens and canonical names worked
out, so that this program connects where `ssh` does. What it refuses in the file is reported with file and
line.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from inventory.errors import ConnectError, ToolError

SYSTEM_CONFIG = Path("/etc/ssh/ssh_config")
_UNDECLARED = "clawd-undeclared"
_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class Destination:
    """The settings for one destination. `user` and `port` are `None` when the files do not set them."""

    address: str
    user: str | None = None
    port: int | None = None
    keys: tuple[Path, ...] = ()
    """The files of `IdentityFile`, existing or not; else the default files that exist."""
    certificates: tuple[Path, ...] = ()
    only_keys: bool = False
    agent: str | None = None
    """The agent's socket; `None` without an agent."""
    jumps: tuple[str, ...] = ()
    """`[user@]host[:port]` of `ProxyJump`, in the order of the connections."""
    proxy_command: str = ""
    host_key_alias: str = ""
    known_hosts: tuple[Path, ...] = ()
    family: str = "any"


@dataclass(frozen=True)
class SshConfig:
    """The files of ssh_config(5) for this user. `home` is the folder for `~`."""

    home: Path = field(default_factory=Path.home)
    system: Path = SYSTEM_CONFIG

    @property
    def file(self) -> Path:
        """Return the user's file, which may not exist."""
        return self.home / ".ssh" / "config"

    def lookup(
        self, host: str, *, user: str | None = None, port: int | None = None, default_user: str | None = None
    ) -> Destination:
        """Return what holds for `host`; `Match` may ask for the `user` and `port` already decided.

        `default_user` is who logs in where neither `user` nor the files name anybody. Raises `ConnectError`
        that names file and line where `ssh` cannot read the files, and `ToolError` where there is a file and
        no `ssh` to read it.
        """
        user_else = user or default_user or _local_user()
        if not self._program:
            return self._destination(host, {}, user_else)
        command = [self._program, "-G", *(("-l", user) if user else ()), *(("-p", str(port)) if port else ())]
        with tempfile.NamedTemporaryFile("w", prefix="clawd-ssh-config-", encoding="utf-8") as file:
            file.write(self._wrapper())
            file.flush()
            try:
                done = subprocess.run(
                    [*command, "-F", file.name, "--", host],
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    errors="replace",
                    check=False,
                    timeout=_TIMEOUT_S,
                    env={**os.environ, "HOME": str(self.home)},
                )
            except subprocess.TimeoutExpired as error:
                raise ConnectError(
                    f"the SSH settings for {host} are invalid: `ssh -G` took longer than {_TIMEOUT_S} s",
                    advice=f"check the commands of `Match exec` in {self.file}",
                ) from error
        if done.returncode != 0:
            lines = done.stderr.splitlines()
            said = [_place(line) for line in lines if not re.search("terminating|Pseudo-terminal", line)]
            raise ConnectError(
                f"the SSH settings for {host} are invalid: {'; '.join(said) or '`ssh -G` fails'}",
                advice=f"correct it; `ssh -G {host}` reads the same files",
            )
        printed: dict[str, list[str]] = {}
        for line in done.stdout.splitlines():
            key, _, value = line.partition(" ")
            printed.setdefault(key.lower(), []).append(value.strip())
        return self._destination(host, printed, user_else)

    @cached_property
    def _program(self) -> str | None:
        if not self.file.is_file() and not self.system.is_file():
            return None
        found = shutil.which("ssh")
        if found is None and self.file.is_file():
            raise ToolError(
                f"cannot read {self.file}: `ssh` is not installed on this machine",
                advice="install the OpenSSH client (openssh-client)",
            )
        return found

    def _destination(self, host: str, printed: dict[str, list[str]], default_user: str) -> Destination:
        def one(key: str, default: str = "") -> str:
            value = printed.get(key, [default])[0]
            return "" if value.lower() == "none" else value

        user = one("user", _UNDECLARED)
        tokens = SshTokens(
            host=one("hostname", host),
            original=host,
            port=one("port", "22"),
            user=default_user if user == _UNDECLARED else user,
            home=str(self.home),
            jump=one("proxyjump"),
            key_alias=one("hostkeyalias"),
        )
        jump = tokens.expand(one("proxyjump"), only="%hnpr")
        known = [self._paths(one(key)) for key in ("userknownhostsfile", "globalknownhostsfile")]
        return Destination(
            address=one("hostname", host),
            user=None if user == _UNDECLARED else user,
            port=int(one("port", "22")) if "port" in printed else None,
            keys=self._keys(printed.get("identityfile", []), tokens),
            certificates=self._files(printed.get("certificatefile", []), tokens),
            only_keys=one("identitiesonly", "no") == "yes",
            agent=self._agent(printed.get("identityagent", ["SSH_AUTH_SOCK"])[0]),
            jumps=tuple(filter(None, jump.split(","))),
            proxy_command=one("proxycommand"),
            host_key_alias=one("hostkeyalias"),
            known_hosts=tuple(path for paths in known for path in paths) or self.default_known_hosts(),
            family=one("addressfamily", "any"),
        )

    def _keys(self, values: list[str], tokens: SshTokens) -> tuple[Path, ...]:
        default = [f"~/.ssh/id_{kind}" for kind in _DEFAULT_KINDS]
        # Without `IdentityFile`, `ssh` prints its default list; missing default files are no error.
        if len(values) != 1 and set(values) <= set(default):
            return tuple(path for path in self._files(default, tokens) if is_there(path))
        return self._files(values, tokens)

    def _files(self, values: list[str], tokens: SshTokens) -> tuple[Path, ...]:
        """Return the files of a setting that `ssh -G` prints as written."""
        named = (value for value in values if value.lower() != "none")
        return tuple(self._path(tokens.expand(value, environment=True)) for value in named)

    def default_known_hosts(self) -> tuple[Path, ...]:
        """Return the files of known_hosts where no setting names others."""
        folders = (self.home / ".ssh" / "known_hosts", Path("/etc/ssh/ssh_known_hosts"))
        return tuple(path.with_name(path.name + end) for path in folders for end in ("", "2"))

    def _agent(self, value: str) -> str | None:
        if value.lower() == "none":
            return None
        if value == "SSH_AUTH_SOCK":
            return os.environ.get("SSH_AUTH_SOCK") or None
        if value.startswith("$"):
            return os.environ.get(value[1:].strip("{}")) or None
        return str(self._path(value))

    def _paths(self, value: str) -> list[Path]:
        """Return the files that a setting lists. One whose name has a space is printed as if it were two."""
        whole = self._path(value)
        return [whole] if value and whole.is_file() else [self._path(each) for each in value.split()]

    def _path(self, value: str) -> Path:
        value = value.strip('"')
        if value.startswith("~/"):
            return self.home / value[2:]
        # `ssh` takes the home folder of some settings from the list of users, this program from $HOME.
        listed = _home_of_user()
        if self.home != Path(listed) and value.startswith(f"{listed}/"):
            here = self.home / value[len(listed) + 1 :]
            return here if here.exists() or not Path(value).exists() else Path(value)
        return Path(value)

    def _wrapper(self) -> str:
        """Return a configuration that includes the user's and the system's file, then sets defaults."""
        known = " ".join(f'"{path}"' for path in self.default_known_hosts()[:2])
        files = "".join(f'Include "{path}"\n' for path in (self.file, self.system) if path.is_file())
        return f"{files}Match all\n    User {_UNDECLARED}\n    UserKnownHostsFile {known}\n"


def jump_of(text: str) -> tuple[str | None, str, int | None]:
    """Return user, host and port of one hop of `ProxyJump`: `[user@]host[:port]`, or the same behind `ssh://`."""
    text = text.removeprefix("ssh://").rstrip("/")
    user, _, place = text.rpartition("@")
    bracketed = re.fullmatch(r"\[(?P<host>[^\]]+)\](?::(?P<port>\d+))?", place)
    plain = re.fullmatch(r"(?P<host>[^:]+):(?P<port>\d+)", place)
    found = bracketed or plain
    if found is None:
        return user or None, place, None
    return user or None, found["host"], int(found["port"]) if found["port"] else None


@dataclass(frozen=True, slots=True)
class SshTokens:
    """The values of the tokens (`%` and a letter) for one destination (ssh_config(5), TOKENS)."""

    host: str
    original: str
    port: str
    user: str
    home: str = ""
    jump: str = ""
    key_alias: str = ""

    def expand(self, text: str, *, only: str = "", environment: bool = False) -> str:
        """Return `text` with its tokens replaced: all, or `only` these letters; unknown ones stay.

        With `environment`, `${NAME}` is replaced as well, where the variable is set.
        """

        def value(found: re.Match[str]) -> str:
            letter = found["token"]
            if letter is None:
                return os.environ.get(found["name"], found[0])
            if only and letter not in only:
                return found[0]
            return str(self._values().get(letter, found[0]))

        form = r"%(?P<token>.)" + (r"|\$\{(?P<name>\w+)\}" if environment else "")
        return re.sub(form, value, text)

    def _values(self) -> dict[str, str]:
        local = socket.gethostname()
        joined = f"{local}{self.host}{self.port}{self.user}{self.jump}"
        return {
            "%": "%",
            "C": hashlib.sha1(joined.encode(errors="replace"), usedforsecurity=False).hexdigest(),
            "d": self.home,
            "h": self.host,
            "i": str(os.getuid()),
            "j": self.jump,
            "k": self.key_alias or self.original,
            "L": local.partition(".")[0],
            "l": local,
            "n": self.original,
            "p": self.port,
            "r": self.user,
            "u": _local_user(),
        }


def is_there(path: Path) -> bool:
    """Return whether a key file is there, or at least its public part, which names a key of the agent."""
    return path.is_file() or path.with_name(f"{path.name}.pub").is_file()


_DEFAULT_KINDS = ("rsa", "ecdsa", "ecdsa_sk", "ed25519", "ed25519_sk", "xmss", "dsa")


def _local_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _home_of_user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_dir.rstrip("/")
    except KeyError:
        return str(Path.home())


def _place(line: str) -> str:
    """Return what `ssh` says of a line, as `file:line: what`."""
    return re.sub(r"^(\S+?):? line (\d+): ", r"\1:\2: ", line.strip())
