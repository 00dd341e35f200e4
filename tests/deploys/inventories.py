"""Inventories that the components' tests start from."""

from __future__ import annotations

from typing import Any

from inventory.model import Inventory

SECRETS = {
    "telegram-token": "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw",
    "telegram-secret-token": "s3cret-of-the-webhook",
    "feishu-app-secret": "an-app-secret",
    "feishu-encrypt-key": "an-encrypt-key-of-the-app",
    "feishu-verification-token": "a-verification-token",
    "console-jwt-secret": "0123456789abcdef0123456789abcdef",
}
LOCAL: dict[str, Any] = {
    "engine": "llama-cpp",
    "path": "/models/smollm2-135m-q8_0.gguf",
    "context_size": 2048,
    "memory_max": "1G",
}
REMOTE: dict[str, Any] = {
    "engine": "openai-compatible",
    "endpoint": "https://models.example.com/v1/",
    "api_key": "sk-of-the-provider",
    "model": "large",
}
CHANNELS: dict[str, Any] = {
    "telegram": {
        "token": SECRETS["telegram-token"],
        "secret_token": SECRETS["telegram-secret-token"],
    },
    "feishu": {
        "app_id": "cli_a1b2c3",
        "app_secret": SECRETS["feishu-app-secret"],
        "encrypt_key": SECRETS["feishu-encrypt-key"],
        "verification_token": SECRETS["feishu-verification-token"],
    },
    "console": {"jwt_secret": SECRETS["console-jwt-secret"]},
}


ACCESS = {"users": {"telegram:1": "owner"}}


def inventory(hosts: dict[str, list[str]] | None = None, **changes: Any) -> Inventory:
    """An inventory with these hosts' roles (one host with both by default) and all three channels."""
    roles = hosts or {"bot1": ["runtime", "nginx"]}
    declared = {
        name: {"address": f"10.0.0.{number}", "roles": of}
        for number, (name, of) in enumerate(roles.items(), 1)
    }
    whole = {
        "hosts": declared,
        "models": {"default": LOCAL},
        "channels": CHANNELS,
        "access": ACCESS,
        **changes,
    }
    return Inventory.model_validate(whole)
