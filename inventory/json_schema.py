"""The JSON schema of an inventory, for editors.

`python -m inventory.json_schema` writes `inventory/schema.json`.

An editor with the YAML language server uses it when the file begins with
`# yaml-language-server: $schema=schema.json` and its setting `yaml.customTags` is CUSTOM_TAGS.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from inventory.model import Inventory

FILE = Path(__file__).resolve().with_name("schema.json")
CUSTOM_TAGS = ("!age scalar", "!env scalar", "!cmd scalar", "!file scalar")
HOW_TO_GIVE = "A secret: `!age |` and an encrypted block, `!env NAME`, `!cmd COMMAND` or `!file PATH`."


def json_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of an inventory file; secrets are strings with a tag."""
    schema = Inventory.model_json_schema(by_alias=True)
    _explain_secrets(schema)
    for model in schema["$defs"].values():
        # The discriminator is required in a file, although each model has it as its default.
        if "const" in (engine := model.get("properties", {}).get("engine", {})):
            engine.pop("default", None)
            model["required"] = sorted({*model.get("required", []), "engine"})
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Inventory of clawd-provision",
        "x-yaml-custom-tags": list(CUSTOM_TAGS),
    } | {key: value for key, value in schema.items() if key != "title"}


def schema_text() -> str:
    """Return `json_schema` as the text of the schema file."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def _explain_secrets(schema: Any) -> None:
    if isinstance(schema, list):
        for item in schema:
            _explain_secrets(item)
    if not isinstance(schema, dict):
        return
    variants = [schema, *schema.get("anyOf", [])] if "title" in schema else []
    if any(variant.get("format") == "password" for variant in variants):
        for variant in variants:
            # Editors would mark the tagged string as write-only; the tag already says that it is a secret.
            variant.pop("writeOnly", None)
            variant.pop("format", None)
        schema["description"] = f"{schema.get('description', '')} {HOW_TO_GIVE}".strip()
    for item in schema.values():
        _explain_secrets(item)


if __name__ == "__main__":
    FILE.write_text(schema_text(), encoding="utf-8")
