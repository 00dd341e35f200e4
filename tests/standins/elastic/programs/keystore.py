"""The stand-in of bin/elasticsearch-keystore: create, and add with --stdin and --force."""

from __future__ import annotations

import json
import os
import secrets
import sys
from pathlib import Path

KEYSTORE = Path(os.environ.get("ES_PATH_CONF", "/etc/elasticsearch")) / "elasticsearch.keystore"


def main(words: list[str]) -> None:
    if words == ["create"]:
        if KEYSTORE.exists():
            sys.exit("An elasticsearch keystore already exists.")
        write({"keystore.seed": secrets.token_hex(16)})
        return
    if not words or words[0] != "add" or "--stdin" not in words:
        sys.exit(f"unknown command {words}")
    (name,) = (word for word in words[1:] if not word.startswith("-"))
    held = json.loads(KEYSTORE.read_text())
    if name in held and "--force" not in words:
        sys.exit(f"Setting {name} already exists. Overwrite?")
    write({**held, name: sys.stdin.readline().rstrip("\n")})


def write(held: dict[str, str]) -> None:
    # As the real one: a new file with the mode that packages expect, for any caller.
    fresh = KEYSTORE.with_suffix(".tmp")
    fresh.write_text(json.dumps(held | {"salt": secrets.token_hex(8)}))
    fresh.chmod(0o660)
    fresh.replace(KEYSTORE)


if __name__ == "__main__":
    main(sys.argv[1:])
