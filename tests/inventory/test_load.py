from __future__ import annotations

from pathlib import Path
from traceback import format_exception

import pytest

from inventory.errors import ClawdError, InventoryError
from inventory.load import PLACEHOLDER, load
from inventory.sections.models import LocalModel
from tests import ggufs
from tests.inventory.conftest import SECRETS, VALID, private


def test_valid_inventory_is_loaded(laptop: Path) -> None:
    (laptop / "prod.yml").write_text(VALID)
    loaded = load(Path("prod.yml"))
    assert loaded.path == laptop / "prod.yml"
    assert loaded.folder == laptop
    assert loaded.state_folder == laptop / ".clawd" / "team"
    channels = loaded.inventory.channels
    assert channels.telegram is not None
    assert channels.telegram.token.get_secret_value() == SECRETS["telegram"]
    assert channels.feishu is not None
    assert channels.feishu.app_secret.get_secret_value() == SECRETS["app-secret"]
    assert channels.console is not None
    assert channels.console.jwt_secret.get_secret_value() == SECRETS["jwt"]


def test_paths_are_relative_to_the_inventory_file(laptop: Path) -> None:
    inner = laptop / "inventory"
    private(inner / "secret-token", "another-secret-token")
    text = VALID.replace("ssh_key: id", "ssh_key: ../id").replace("path: model", "path: ../model")
    text = text.replace("known_hosts: known", "known_hosts: ../known")
    for name in ("encrypt-key", "jwt"):
        text = text.replace(f"!file {name}", f"!file ../{name}")
    (inner / "prod.yml").write_text(text.replace("cat app-secret", "cat ../app-secret"))
    inventory = load(Path("inventory/prod.yml")).inventory
    assert inventory.hosts["bot1"].ssh_key == laptop / "id"
    assert inventory.known_hosts == laptop / "known_hosts"
    assert isinstance(inventory.models.default, LocalModel)
    assert inventory.models.default.path == laptop / "model.gguf"
    assert inventory.channels.telegram is not None
    assert inventory.channels.telegram.secret_token is not None
    assert inventory.channels.telegram.secret_token.get_secret_value() == "another-secret-token"


def test_linked_model_keeps_its_name(laptop: Path) -> None:
    ggufs.write(laptop / "blob-of-a-cache", ggufs.TINY)
    (laptop / "linked.gguf").symlink_to("blob-of-a-cache")
    (laptop / "prod.yml").write_text(VALID.replace("model.gguf", "linked.gguf"))
    model = load(Path("prod.yml")).inventory.models.default
    assert isinstance(model, LocalModel)
    assert model.path == laptop / "linked.gguf"


def test_tilde_is_expanded_to_the_home_folder(laptop: Path) -> None:
    private(laptop.parent / "home" / ".ssh" / "id", "a key")
    (laptop / "prod.yml").write_text(VALID.replace("ssh_key: id", "ssh_key: ~/.ssh/id"))
    assert load(Path("prod.yml")).inventory.hosts["bot1"].ssh_key == laptop.parent / "home" / ".ssh" / "id"


def test_load_without_secrets_runs_no_command_and_opens_no_other_file(
    laptop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TELEGRAM_TOKEN")
    text = VALID.replace("cat app-secret", "touch ran").replace("model.gguf", "elsewhere.gguf")
    (laptop / "prod.yml").write_text(text)
    inventory = load(Path("prod.yml"), resolve_secrets=False).inventory
    assert inventory.channels.telegram is not None
    assert inventory.channels.telegram.token.get_secret_value() == PLACEHOLDER
    assert not (laptop / "ran").exists()


def test_load_without_secrets_still_reports_mistakes(laptop: Path) -> None:
    (laptop / "prod.yml").write_text(VALID.replace("!env TELEGRAM_TOKEN", "plain"))
    with pytest.raises(InventoryError, match="plain text"):
        load(Path("prod.yml"), resolve_secrets=False)


def test_missing_file_is_reported(laptop: Path) -> None:
    with pytest.raises(ClawdError, match=r"cannot read prod\.yml: No such file"):
        load(Path("prod.yml"))


def test_merge_key_shares_settings_between_hosts(laptop: Path) -> None:
    text = VALID.replace("  bot1:\n", "  bot1: &host\n").replace(
        "base:\n", "  bot2:\n    <<: *host\n    address: 192.0.2.12\nbase:\n"
    )
    (laptop / "prod.yml").write_text(text)
    hosts = load(Path("prod.yml")).inventory.hosts
    assert hosts["bot2"].ssh_key == hosts["bot1"].ssh_key
    assert hosts["bot2"].address == "192.0.2.12"


def test_byte_order_mark_and_windows_line_ends_are_accepted(laptop: Path) -> None:
    (laptop / "prod.yml").write_bytes(b"\xef\xbb\xbf" + VALID.replace("\n", "\r\n").encode())
    assert load(Path("prod.yml")).inventory.project == "team"


@pytest.mark.parametrize(
    "text",
    [
        VALID,
        VALID.replace("!env TELEGRAM_TOKEN", SECRETS["telegram"]),
        VALID.replace("!file secret-token", "!flie " + SECRETS["secret-token"]),
        VALID.replace("    token: !env TELEGRAM_TOKEN", "    tokn: " + SECRETS["telegram"]),
        VALID.replace("  console:\n    jwt_secret: !file jwt\n", f"  console: {SECRETS['jwt']}\n"),
        VALID.replace("!cmd cat app-secret", "!cmd cat app-secret; cat app-secret >&2; false"),
        VALID.replace("!cmd cat app-secret", f"*{SECRETS['app-secret']}"),
        VALID.replace("!cmd cat app-secret", f"'{SECRETS['app-secret']}"),
        VALID.replace("!cmd cat app-secret", f"[{SECRETS['app-secret']}, !env TELEGRAM_TOKEN]"),
        VALID.replace("!file jwt", "!file secret-token"),
        VALID.replace("!file secret-token", "!cmd echo canary with spaces"),
        VALID.replace("!env TELEGRAM_TOKEN", "!file secret-token"),
        VALID.replace("!file encrypt-key", f"!age {SECRETS['encrypt-key']}"),
    ],
)
def test_errors_and_repr_never_show_secrets(laptop: Path, text: str) -> None:
    assert all("canary" in secret for secret in SECRETS.values())
    (laptop / "prod.yml").write_text(text)
    try:
        loaded = load(Path("prod.yml"))
    except ClawdError as error:
        # The traceback too: it shows causes, which may hold what was read.
        seen = f"{error!r} {vars(error)} {''.join(format_exception(error))}"
    else:
        seen = f"{loaded} {loaded!r} {loaded.inventory} {loaded.inventory.model_dump()}"
        seen += loaded.inventory.model_dump_json()
        assert "canary" in loaded.inventory.channels.telegram.token.get_secret_value()  # type: ignore[union-attr]
    assert seen
    assert "canary" not in seen
