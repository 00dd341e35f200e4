"""Values that are secret, in whichever section."""

from __future__ import annotations

from tests.inventory.mistakes.case import Cases, reported

CASES: Cases = {
    "plain-text secret": (
        "!env TELEGRAM_TOKEN",
        "‸123456:canary",
        "`channels.telegram.token` is a secret in plain text",
        "use !age, !env NAME, !cmd COMMAND or !file PATH, and rotate the secret if others saw it",
    ),
    "secret tag where none belongs": (
        "app_id: cli_1",
        "app_id: ‸!env TELEGRAM_TOKEN",
        "`channels.feishu.app_id` is not a secret: !env is for secrets only",
        "write the value",
    ),
    "variable not set": (
        "!env TELEGRAM_TOKEN",
        "‸!env NOT_THERE",
        "the environment variable NOT_THERE is not set",
        "set it before the run: `export NOT_THERE=…`",
    ),
    "variable with $": (
        "!env TELEGRAM_TOKEN",
        "‸!env $TELEGRAM_TOKEN",
        "`!env` takes the name of an environment variable",
        "write `!env NAME`, without `$`",
    ),
    "command fails": (
        "!cmd cat app-secret",
        "‸!cmd cat app-secret; exit 3",
        "the command failed with exit code 3",
        "run it in {folder}; its output is never shown here",
    ),
    "command says nothing": (
        "!cmd cat app-secret",
        "‸!cmd true",
        "the secret from `!cmd` is empty",
        "store the value there",
    ),
    "secret file missing": (
        "!file encrypt-key",
        "‸!file encrypt-kee",
        "the secret file {folder}/encrypt-kee does not exist",
        "create it with mode 0600, or correct the path",
    ),
    "secret file open to others": (
        "!file encrypt-key",
        "‸!file open",
        "{folder}/open is accessible to other users (mode 0640)",
        "run `chmod 600 {folder}/open`",
    ),
    "secret file is a folder": (
        "!file encrypt-key",
        "‸!file .",
        "{folder} is not a regular file",
        "give a file that contains only the secret",
    ),
    "no age key": (
        "!file encrypt-key",
        "‸!age abc",
        "cannot decrypt: there is no age key on this machine",
        "store yours in ~/.config/clawd-provision/age.key (mode 0600), or set CLAWD_AGE_KEY_FILE to its path",
    ),
    "secret tag without text": ("!file encrypt-key", "‸!file", "`!file` has no value", "write `!file PATH`"),
}

test_mistake = reported(CASES)
