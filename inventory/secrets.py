"""Secrets: resolution of `!age`, `!env`, `!cmd` and `!file` values, and the age keys of this laptop.

No message of this module contains a secret, a command's output or a part of either.
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
from inventory.inventory_path import folders
from inventory.reading.source import Tagged
from inventory.reading.text import is_utf8

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
AgeIdentity = Any


class SecretReader:
    """A reader of the secrets of one inventory; relative paths and commands start in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, reference: Tagged) -> str:
        """Return the secret that `reference` names, without trailing line breaks.

        Raises `SecretError` when it cannot be read, is empty or contains control characters.
        """
        read = {"!env": self._env, "!cmd": self._cmd, "!file": self._file, "!age": self._age}[reference.tag]
        if not (text := reference.text.strip()):
            raise SecretError(f"`{reference.tag}` has no value", advice=f"write {_USAGE[reference.tag]}")
        secret = read(text).rstrip("\r\n")
        if not secret:
            raise SecretError(f"the secret from `{reference.tag}` is empty", advice="store the value there")
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
                advice="use a command that prints the secret without asking for input",
            )
        if code != 0:
            raise SecretError(
                f"the command failed with exit code {code}",
                advice=f"run it in {self.folder}; its output is never shown here",
            )
        return _utf8(output, "the command's output")

    def _file(self, name: str) -> str:
        path = self.folder / expand_home(name)
        return _utf8(_read_private(path), str(path))

    def _age(self, armored: str) -> str:
        if not self._identities:
            raise SecretError(
                "cannot decrypt: there is no age key on this machine",
                advice=f"store yours in {DEFAULT_KEY_FILE} (mode 0600), or set CLAWD_AGE_KEY_FILE to its "
                "path",
            )
        return decrypt(armored, self._identities)

    @cached_property
    def _identities(self) -> tuple[AgeIdentity, ...]:
        return own_identities()


_USAGE = {
    "!env": "`!env NAME`",
    "!cmd": "`!cmd COMMAND`",
    "!file": "`!file PATH`",
    "!age": "`!age |` and the encrypted block below it",
}


def encrypt(value: str, recipients: Sequence[str]) -> str:
    """Encrypt `value` to all `recipients` and return armored text for a YAML block `!age |`.

    A recipient is an age public key (`age1…`) or an SSH public key (`ssh-ed25519 …`, `ssh-rsa …`). The
    format is https://age-encryption.org/v1. Raises `SecretError` without recipients or for a malformed one.
    """
    if not recipients:
        raise SecretError(
            "cannot encrypt: there are no recipients",
            advice="create a key with `clawd-provision inventory keygen`, or list your team's public keys in "
            "`.clawd/recipients` next to the inventory",
        )
    armored: bytes = pyrage.encrypt(value.encode(), [_recipient(text) for text in recipients], armored=True)
    return armored.decode("ascii")


def decrypt(armored: str, identities: Sequence[AgeIdentity]) -> str:
    """Return the decrypted text. Raises `SecretError` when no identity can decrypt it or it is damaged."""
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
            "cannot decrypt this age value: it is damaged, or not encrypted to any of your keys",
            advice="encrypt it again with your key among the recipients, or use the key it was encrypted to",
        ) from None


def own_identities() -> tuple[AgeIdentity, ...]:
    """Return the age keys of this laptop; empty when there are none.

    They come from CLAWD_AGE_KEY (the key itself), else from the file that CLAWD_AGE_KEY_FILE names, else from
    `~/.config/clawd-provision/age.key`. The file may also be an OpenSSH private key. Raises `SecretError`
    when a named key is missing, malformed or accessible to other users.
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
    """Return the public keys to encrypt to when none are given.

    They are those in `.clawd/recipients` of `folder` (one on each line, `#` comments), else those of this
    laptop's own age keys. Without `folder`, the current folder and the nearest `inventory/` folders are
    searched. Raises `SecretError` when the file cannot be read or lists something else.
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
    """Return the path of this laptop's age key when the environment names none."""
    return expand_home(DEFAULT_KEY_FILE)


def generate_identity(path: Path) -> str:
    """Create an age key in the file `path`, readable by its owner only, and return its public key.

    Raises `SecretError` when the file exists, because values encrypted to the old key would be lost.
    """
    identity = pyrage.x25519.Identity.generate()
    public = str(identity.to_public())
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise SecretError(
            f"cannot create a key: {path} exists already", advice="use that key, or choose another path"
        ) from error
    with os.fdopen(descriptor, "w", encoding="ascii") as stream:
        stream.write(f"# public key: {public}\n{identity}\n")
    return public


def expand_home(name: str) -> Path:
    """Return `name` as a path with `~` expanded. Raises `SecretError` when that home folder is unknown."""
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise SecretError(f"the home folder in {name} is unknown", advice="write the full path") from error


def _recipients_of(file: Path) -> tuple[str, ...]:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise SecretError(
            f"cannot read {file}: {error.strerror}", advice="restore it from a backup"
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
            "cannot encrypt to a private key"
            if private
            else f"`{text[:24]}…` is not a public key to encrypt to",
            advice="use `age1…`, `ssh-ed25519 …` or `ssh-rsa …`",
        ) from error


def _identities(text: str, source: str) -> tuple[AgeIdentity, ...]:
    try:
        if "-----BEGIN OPENSSH PRIVATE KEY-----" in text or "-----BEGIN RSA PRIVATE KEY-----" in text:
            return (pyrage.ssh.Identity.from_buffer(text.encode()),)
        lines = (line.strip() for line in text.splitlines())
        return tuple(
            pyrage.x25519.Identity.from_str(line) for line in lines if line and not line.startswith("#")
        )
    except _PYRAGE_ERRORS:
        raise SecretError(
            f"{source} does not contain an age key",
            advice="it must contain a line `AGE-SECRET-KEY-1…` or an SSH private key",
        ) from None


def _read_private(path: Path) -> bytes:
    """Return the content of a file. Raises `SecretError` when users other than its owner can access it."""
    try:
        # Non-blocking, so that opening a named pipe cannot hang the run.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise SecretError(
            f"the secret file {path} does not exist", advice="create it with mode 0600, or correct the path"
        ) from error
    except (OSError, ValueError) as error:
        raise SecretError(
            f"cannot read the secret file {path}: {getattr(error, 'strerror', error)}",
            advice="make it readable for your user only",
        ) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise SecretError(
                f"{path} is not a regular file", advice="give a file that contains only the secret"
            )
        mode = stat.S_IMODE(status.st_mode)
        if mode & 0o077:
            raise SecretError(
                f"{path} is accessible to other users (mode {mode:04o})", advice=f"run `chmod 600 {path}`"
            )
        if status.st_size > LARGEST_SECRET:
            raise SecretError(
                f"{path} is larger than 64 KiB", advice="give a file that contains only the secret"
            )
        return os.read(descriptor, LARGEST_SECRET)
    finally:
        os.close(descriptor)


def _run(command: str, folder: Path) -> tuple[int | None, bytes]:
    """Run a shell command; return its exit code (`None` after the time limit) and its output.

    All processes that it started are killed at the end.
    """
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
