"""The deployment that the reference describes: one with every component, and nothing of a real one."""

from __future__ import annotations

from typing import Any

from inventory.model import Inventory

SECRET = "0123456789abcdef" * 4
"""Of no deployment; the pages show no secrets."""


def inventory(**changes: Any) -> Inventory:
    """Return an inventory whose hosts have all roles between them; `changes` replace sections of it."""
    whole: dict[str, Any] = {
        "hosts": {
            "bot1": _host(1, "runtime", "nginx", gpu="auto", disk={}),
            "bot2": _host(2, "runtime"),
            "store1": _host(3, "database"),
            "watch1": _host(4, "monitoring"),
            "logs1": _host(5, "logs"),
        },
        "models": {
            "default": {"engine": "llama-cpp", "path": "/models/model.gguf"},
            "fallback": {
                "engine": "openai-compatible",
                "endpoint": "https://models.example.com/v1",
                "api_key": SECRET,
            },
        },
        "channels": {
            "telegram": {"token": SECRET, "secret_token": SECRET},
            "feishu": {
                "app_id": "cli_a1b2c3",
                "app_secret": SECRET,
                "encrypt_key": SECRET,
                "verification_token": SECRET,
            },
            "console": {"jwt_secret": SECRET},
        },
        "tls": {"mode": "acme", "names": ["bot.example.com"], "acme": {"email": "ops@example.com"}},
        "database": {"password": SECRET},
        "nvidia": {"key": "/keys/nvidia.asc", "toolkit_key": "/keys/nvidia-toolkit.asc"},
        "docker": {"enabled": True},
        "monitoring": {
            "alerts": {
                "token": SECRET,
                "telegram_chat": -1001234567890,
                "feishu_webhook": "https://open.feishu.cn/open-apis/bot/v2/hook/0123",
                "feishu_webhook_secret": SECRET,
            },
            "grafana": {"admin_password": SECRET, "key": "/keys/grafana.asc", "open_to": ["10.0.0.0/8"]},
        },
        "logs": {"password": SECRET, "kibana_from": ["10.0.0.0/8"], "packages": {"key": "/keys/elastic.asc"}},
    }
    return Inventory.model_validate(whole | changes)


def _host(number: int, *roles: str, **more: Any) -> dict[str, Any]:
    return {"address": f"10.0.0.{number}", "roles": roles, **more}
