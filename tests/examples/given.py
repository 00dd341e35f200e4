"""The example inventories, and what they find in the environment of their operator."""

from __future__ import annotations

from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[2] / "inventory" / "examples"
SECRETS = {
    "CLAWD_TELEGRAM_TOKEN": "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw",
    "CLAWD_TELEGRAM_SECRET_TOKEN": "canary-secret-token",
    "CLAWD_FEISHU_APP_SECRET": "canary-app-secret",
    "CLAWD_FEISHU_ENCRYPT_KEY": "canary-encrypt-key",
    "CLAWD_FEISHU_VERIFICATION_TOKEN": "canary-verification",
    "CLAWD_CONSOLE_JWT_SECRET": "canary-0123456789-0123456789-0123456789",
    "CLAWD_DATABASE_PASSWORD": "canary-of-the-database",
    "CLAWD_ALERTS_TOKEN": "canary-of-the-alerts",
    "CLAWD_LOGS_PASSWORD": "canary-0123456789-0123456789-of-the-logs",
    "CLAWD_FALLBACK_API_KEY": "canary-of-the-fallback",
}
