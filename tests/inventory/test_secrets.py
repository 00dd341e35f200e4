from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pyrage
import pytest

from inventory import secrets
from inventory.errors import InventoryError, SecretError
from inventory.load import load
from inventory.reading.source import Tagged
from inventory.secrets import (
    SecretReader,
    decrypt,
    encrypt,
    generate_identity,
    own_identities,
    own_recipients,
)
from tests.inventory.conftest import VALID, private


def test_age_encrypted_secret_is_decrypted_on_load(laptop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    public = generate_identity(laptop / "age.key")
    monkeypatch.setenv("CLAWD_AGE_KEY_FILE", str(laptop / "age.key"))
    armored = encrypt("a-secret-token-of-ours", [public])
    block = "!age |\n" + "".join(f"      {line}\n" for line in armored.splitlines())
    (laptop / "prod.yml").write_text(VALID.replace("!file secret-token\n", block))
    telegram = load(Path("prod.yml")).inventory.channels.telegram
    assert telegram is not None
    assert telegram.secret_token is not None
    assert telegram.secret_token.get_secret_value() == "a-secret-token-of-ours"


def test_age_value_for_another_key_is_a_mistake_with_its_place(
    laptop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = pyrage.x25519.Identity.generate()
    monkeypatch.setenv("CLAWD_AGE_KEY", str(pyrage.x25519.Identity.generate()))
    armored = encrypt("canary", [str(other.to_public())])
    block = "!age |\n" + "".join(f"      {line}\n" for line in armored.splitlines())
    (laptop / "prod.yml").write_text(VALID.replace("!file secret-token\n", block))
    with pytest.raises(InventoryError) as raised:
        load(Path("prod.yml"))
    assert [str(mistake) for mistake in raised.value.mistakes] == [
        (
            "prod.yml:18:19: cannot decrypt this age value: it is damaged, or not encrypted to any of your "
            "keys\nhint: encrypt it again with your key among the recipients, or use the key it was "
            "encrypted to"
        )
    ]


def test_key_file_of_age_keygen_is_read(laptop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = pyrage.x25519.Identity.generate()
    text = f"# created: 2024-01-01T00:00:00Z\n# public key: {identity.to_public()}\n{identity}\n"
    monkeypatch.setenv("CLAWD_AGE_KEY_FILE", str(private(laptop / "key.txt", text)))
    assert decrypt(encrypt("x", own_recipients()), own_identities()) == "x"


def test_default_age_key_file_is_read(laptop: Path) -> None:
    assert own_identities() == ()
    home = laptop.parent / "home"
    generate_identity(home / ".config/clawd-provision/age.key")
    assert len(own_identities()) == 1


def test_ssh_keys_encrypt_and_decrypt(laptop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "ssh"], check=True)
    monkeypatch.setenv("CLAWD_AGE_KEY_FILE", str(laptop / "ssh"))
    armored = encrypt("value", [(laptop / "ssh.pub").read_text().strip()])
    assert SecretReader(laptop).read(Tagged("!age", armored)) == "value"


def test_every_recipient_of_a_team_can_decrypt(laptop: Path) -> None:
    keys = [pyrage.x25519.Identity.generate() for _ in range(3)]
    listed = "".join(f"# someone\n{key.to_public()}\n\n" for key in keys)
    (laptop / "inventory" / ".clawd").mkdir(parents=True)
    (laptop / "inventory" / ".clawd" / "recipients").write_text(listed)
    assert own_recipients() == tuple(str(key.to_public()) for key in keys)
    armored = encrypt("value", own_recipients(laptop / "inventory"))
    assert [decrypt(armored, [key]) for key in keys] == ["value"] * 3


def test_encrypting_without_recipients_is_refused(laptop: Path) -> None:
    with pytest.raises(SecretError, match="there are no recipients"):
        encrypt("x", own_recipients())


def test_a_private_key_among_the_recipients_is_not_shown(laptop: Path) -> None:
    generate_identity(laptop / "key")
    private = (laptop / "key").read_text().splitlines()[1]
    (laptop / ".clawd").mkdir()
    (laptop / ".clawd" / "recipients").write_text(private)
    with pytest.raises(SecretError) as raised:
        own_recipients(laptop)
    assert str(laptop / ".clawd" / "recipients") in str(raised.value)
    assert private[16:20] not in str(raised.value)


@pytest.mark.parametrize("recipient", ["age1xyz", "ssh-ed25519 AAAA", "alice", ""])
def test_malformed_recipient_is_refused(recipient: str) -> None:
    with pytest.raises(SecretError, match="not a public key"):
        encrypt("x", [recipient])


def test_generated_key_file_is_private_and_is_not_overwritten(laptop: Path) -> None:
    path = laptop / "new" / "age.key"
    public = generate_identity(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o077 == 0
    before = path.read_text()
    assert public in before
    with pytest.raises(SecretError, match="exists already"):
        generate_identity(path)
    assert path.read_text() == before


def test_key_file_readable_by_others_is_refused(laptop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generate_identity(laptop / "age.key")
    (laptop / "age.key").chmod(0o644)
    monkeypatch.setenv("CLAWD_AGE_KEY_FILE", str(laptop / "age.key"))
    with pytest.raises(SecretError, match="accessible to other users"):
        own_identities()


def test_malformed_key_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAWD_AGE_KEY", "AGE-SECRET-KEY-1CANARY")
    with pytest.raises(SecretError) as raised:
        own_identities()
    assert "CANARY" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_secret_command_runs_in_the_folder_of_the_inventory(laptop: Path) -> None:
    assert SecretReader(laptop).read(Tagged("!cmd", "pwd; true | cat")) == str(laptop)


def test_secret_command_is_killed_after_its_time_limit(laptop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "COMMAND_LIMIT", 0.5)
    with pytest.raises(SecretError, match="did not end"):
        SecretReader(laptop).read(Tagged("!cmd", "sh -c 'echo $$ > pid; exec sleep 600' & wait"))
    assert ended(int((laptop / "pid").read_text()))


def test_background_processes_of_a_secret_command_are_killed(laptop: Path) -> None:
    command = "sleep 60 >/dev/null & echo $! > pid; echo secret"
    assert SecretReader(laptop).read(Tagged("!cmd", command)) == "secret"
    assert ended(int((laptop / "pid").read_text()))


def ended(pid: int) -> bool:
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        status = Path(f"/proc/{pid}/stat")
        if status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


def test_named_pipe_as_secret_file_is_refused_without_blocking(laptop: Path) -> None:
    os.mkfifo(laptop / "pipe", 0o600)
    with pytest.raises(SecretError, match="is not a regular file"):
        SecretReader(laptop).read(Tagged("!file", "pipe"))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"a\x00b", "control characters"),
        (b"\xff\xfe", "not UTF-8"),
        (b"x" * 70_000, "larger than 64 KiB"),
    ],
)
def test_unusable_secret_file_is_refused_with_its_problem(laptop: Path, content: bytes, problem: str) -> None:
    (laptop / "bad").write_bytes(content)
    (laptop / "bad").chmod(0o600)
    with pytest.raises(SecretError, match=problem):
        SecretReader(laptop).read(Tagged("!file", "bad"))
