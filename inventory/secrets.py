"""Where secrets come from: `!age`, `!env`, `!cmd` and `!file` values, and the age keys of this laptop.

No message of this module carries a secret, a command's output or a part of either.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import stat
import subprocess
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pyrage

from inventory.errors import SecretError
from inventory.find import folders
from inventory.source import Tagged
from inventory.text import is_utf8

COMMAND_LIMIT = 30.0
LARGEST_SECRET = 65_536
DEFAULT_KEY_FILE = "~/.config/clawd-provision/age.key"

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_PYRAGE_ERRORS = (
    pyrage.DecryptError,
    pyrage.EncryptError,
    pyrage.IdentityError,
    pyrage.RecipientError,
    ValueError,
)

# pyrage has no type information: an identity is one of its x25519 or ssh private keys.
Identity = Any


class SecretReader:
    """Reads the secrets of one inventory; `folder` is where its relative paths and commands start."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, reference: Tagged) -> str:
        """The secret that `reference` names, without line breaks at its end.

        Raises SecretError, which says why not and what to do.
        """
        read = {"!env": self._env, "!cmd": self._cmd, "!file": self._file, "!age": self._age}[reference.tag]
        if not (text := reference.text.strip()):
            raise SecretError(f"`{reference.tag}` names nothing", advice=f"write {_USAGE[reference.tag]}")
        secret = read(text).rstrip("\r\n")
        if not secret:
            raise SecretError(
                f"the secret from `{reference.tag}` is empty", advice="put the value where it is read from"
            )
        if _CONTROL.search(secret):
            raise SecretError(
                f"the secret from `{reference.tag}` contains control characters",
                advice="store it as plain text",
            )
        return secret

    def _env(self, name: str) -> str:
        if not _ENV_NAME.fullmatch(name):
            raise SecretError(
                "`!env` takes the name of an environment variable", advice="write `!env NAME`, without `$`"
            )
        value = os.environ.get(name)
        if value is None:
            raise SecretError(
                f"the environment variable {name} is not set",
                advice=f"set it before the run: `export {name}=…`",
            )
        if not is_utf8(value):
            raise _not_utf8(f"the environment variable {name}")
        return value

    def _cmd(self, command: str) -> str:
        code, output = _run(command, self.folder)
        if code is None:
            raise SecretError(
                f"the command did not end within {COMMAND_LIMIT:.0f} seconds",
                advice="use one that asks nothing and prints the secret",
            )
        if code != 0:
            raise SecretError(
                f"the command failed with exit code {code}",
                advice=f"try it in {self.folder}; its output is never shown here",
            )
        return _utf8(output, "the command's output")

    def _file(self, name: str) -> str:
        path = self.folder / expand_home(name)
        return _utf8(_read_private(path), str(path))

    def _age(self, armored: str) -> str:
        if not self._identities:
            raise SecretError(
                "there is no age key on this machine to decrypt with",
                advice=f"put yours into {DEFAULT_KEY_FILE} (mode 0600), or name it in CLAWD_AGE_KEY_FILE",
            )
        return decrypt(armored, self._identities)

    @cached_property
    def _identities(self) -> tuple[Identity, ...]:
        return own_identities()


_USAGE = {
    "!env": "`!env NAME`",
    "!cmd": "`!cmd COMMAND`",
    "!file": "`!file PATH`",
    "!age": "`!age |` and the encrypted block below it",
}


def encrypt(value: str, recipients: Sequence[str]) -> str:
    """`value` encrypted to every one of `recipients`, as armored text for a YAML block `!age |`.

    A recipient is an age public key (`age1…`) or an SSH public key (`ssh-ed25519 …`, `ssh-rsa …`). The
    format is https://age-encryption.org/v1. Raises SecretError for no or a malformed recipient.
    """
    if not recipients:
        raise SecretError(
            "there is nobody to encrypt to",
            advice="make a key with `clawd-provision inventory keygen`, or list your team's public keys in "
            "`.clawd/recipients` beside the inventory",
        )
    armored: bytes = pyrage.encrypt(value.encode(), [_recipient(text) for text in recipients], armored=True)
    return armored.decode("ascii")


def decrypt(armored: str, identities: Sequence[Identity]) -> str:
    """The text that `encrypt` was given. Raises SecretError when no identity opens it or it is damaged."""
    body = armored.strip() + "\n"
    if not body.startswith("-----BEGIN AGE ENCRYPTED FILE-----"):
        raise SecretError(
            "this is not age's armored format",
            advice="paste everything from `-----BEGIN` to `-----END` below `!age |`",
        )
    try:
        return _utf8(pyrage.decrypt(body.encode(), list(identities)), "the decrypted value")
    except _PYRAGE_ERRORS:
        raise SecretError(
            "this age value cannot be decrypted: it is damaged, or none of your keys opens it",
            advice="encrypt it again with your key among the recipients, or use the key it was made for",
        ) from None


def own_identities() -> tuple[Identity, ...]:
    """The age keys of this laptop: from CLAWD_AGE_KEY (the key itself), else from the file that
    CLAWD_AGE_KEY_FILE names, else from `~/.config/clawd-provision/age.key`.

    Empty when there is none. The file may also be an OpenSSH private key. Raises SecretError when one is
    named but missing, malformed or readable by others.
    """
    if key := os.environ.get("CLAWD_AGE_KEY"):
        return _identities(key, "CLAWD_AGE_KEY")
    if name := os.environ.get("CLAWD_AGE_KEY_FILE"):
        return _identities(_utf8(_read_private(expand_home(name)), name), name)
    default = default_key_file()
    if default.exists():
        return _identities(_utf8(_read_private(default), str(default)), str(default))
    return ()


def own_recipients(folder: Path | None = None) -> tuple[str, ...]:
    """The public keys to encrypt to when none are given: those in `.clawd/recipients` of `folder` (one a
    line, `#` comments), else those of this laptop's own age keys.

    Without `folder` the current folder and the nearest `inventory/` folders are looked at. Raises SecretError
    when the file cannot be read or lists something else.
    """
    for place in [folder] if folder else [Path.cwd(), *folders(Path.cwd())]:
        listed = place / ".clawd" / "recipients"
        if listed.is_file():
            return _recipients_of(listed)
    return tuple(
        str(identity.to_public())
        for identity in own_identities()
        if isinstance(identity, pyrage.x25519.Identity)
    )


def default_key_file() -> Path:
    """Where this laptop's age key is looked for when the environment names none."""
    return expand_home(DEFAULT_KEY_FILE)


def generate_identity(path: Path) -> str:
    """Make a new age key in the file `path`, readable by its owner only, and return its public key.

    Raises SecretError when the file exists: what it decrypts would be lost.
    """
    identity = pyrage.x25519.Identity.generate()
    public = str(identity.to_public())
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise SecretError(
            f"{path} exists already and is kept", advice="use it, or choose another path"
        ) from error
    with os.fdopen(descriptor, "w", encoding="ascii") as stream:
        stream.write(f"# public key: {public}\n{identity}\n")
    return public


def expand_home(name: str) -> Path:
    """`name` as a path, `~` replaced. Raises SecretError when whose home is meant is unknown."""
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise SecretError(f"the home folder in {name} is unknown", advice="write the path out") from error


def _recipients_of(file: Path) -> tuple[str, ...]:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise SecretError(
            f"{file} cannot be read: {error.strerror}", advice="restore it from a copy"
        ) from error
    lines = (line.strip() for line in _utf8(content, str(file)).splitlines())
    found = tuple(line for line in lines if line and not line.startswith("#"))
    for line in found:
        try:
            _recipient(line)
        except SecretError as error:
            raise SecretError(f"{file}: {error.message}", advice=error.advice) from None
    return found


def _recipient(text: str) -> Any:
    kind = pyrage.ssh if text.startswith("ssh-") else pyrage.x25519
    try:
        return kind.Recipient.from_str(text)
    except _PYRAGE_ERRORS as error:
        private = re.match(r"AGE-SECRET-KEY|-----BEGIN", text, re.IGNORECASE)
        raise SecretError(
            "a private key is not what to encrypt to"
            if private
            else f"`{text[:24]}…` is not a public key to encrypt to",
            advice="use `age1…`, `ssh-ed25519 …` or `ssh-rsa …`",
        ) from error


def _identities(text: str, source: str) -> tuple[Identity, ...]:
    try:
        if "-----BEGIN OPENSSH PRIVATE KEY-----" in text or "-----BEGIN RSA PRIVATE KEY-----" in text:
            return (pyrage.ssh.Identity.from_buffer(text.encode()),)
        lines = (line.strip() for line in text.splitlines())
        return tuple(
            pyrage.x25519.Identity.from_str(line) for line in lines if line and not line.startswith("#")
        )
    except _PYRAGE_ERRORS:
        raise SecretError(
            f"{source} does not hold an age key",
            advice="it should hold a line `AGE-SECRET-KEY-1…` or an SSH private key",
        ) from None


def _read_private(path: Path) -> bytes:
    """The content of a file that only its owner may read."""
    try:
        # Not blocking, so that a pipe in the file's place cannot hold up the run.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise SecretError(
            f"the secret file {path} does not exist", advice="create it with mode 0600, or correct the path"
        ) from error
    except (OSError, ValueError) as error:
        raise SecretError(
            f"the secret file {path} cannot be read: {getattr(error, 'strerror', error)}",
            advice="make it readable to you alone",
        ) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise SecretError(f"{path} is not a file", advice="name a file that holds nothing but the secret")
        mode = stat.S_IMODE(status.st_mode)
        if mode & 0o077:
            raise SecretError(
                f"{path} is open to others than its owner (mode {mode:04o})", advice=f"`chmod 600 {path}`"
            )
        if status.st_size > LARGEST_SECRET:
            raise SecretError(
                f"{path} is larger than 64 KiB", advice="name a file that holds nothing but the secret"
            )
        return os.read(descriptor, LARGEST_SECRET)
    finally:
        os.close(descriptor)


def _run(command: str, folder: Path) -> tuple[int | None, bytes]:
    """Exit code (None after the time limit) and output of a shell command, everything it started ended."""
    with subprocess.Popen(  # noqa: S602 - a shell command is what the user declares with !cmd
        command,
        shell=True,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=COMMAND_LIMIT)
        except subprocess.TimeoutExpired:
            return None, b""
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, output


def _utf8(content: bytes, what: str) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise _not_utf8(what) from None


def _not_utf8(what: str) -> SecretError:
    return SecretError(f"{what} is not UTF-8 text", advice="store the secret as text")
