from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from deploys.alertmanager.config import config
from deploys.alertmanager.settings import AlertmanagerSettings, settings_for
from deploys.runtime.alerts import alerts_credentials
from deploys.runtime.config import bot_config
from deploys.runtime.settings import settings_for as runtime_for
from tests.deploys.golden import assert_golden
from tests.deploys.inventories import inventory
from tests.deploys.monitoring import ALERTS, monitored
from tests.deploys.prometheus.tools import program

GOLDEN = Path(__file__).parent / "golden"
TEAM = {"bot1": ["runtime"], "bot2": ["runtime"], "front": ["nginx"], "watch": ["monitoring"]}
DATABASE = {"password": "0123456789abcdef", "url": "postgresql://clawd@db.example.com/clawd"}


def settings(**changes: Any) -> AlertmanagerSettings:
    found = settings_for(monitored(TEAM, **changes), "watch")
    assert found
    return found


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("team", settings(database=DATABASE)),
        ("no-receivers", settings(monitoring={})),
    ],
)
def test_configuration_equals_golden_file_and_amtool_accepts_it(
    name: str, found: AlertmanagerSettings, tmp_path: Path
) -> None:
    text = config(found)
    assert_golden(GOLDEN / f"{name}.yml", text)
    (tmp_path / "alertmanager.yml").write_text(text)
    words = [program("amtool"), "check-config", str(tmp_path / "alertmanager.yml")]
    checked = subprocess.run(words, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_alerts_go_to_one_bot_unless_bots_share_a_database() -> None:
    assert settings().bots == ("https://10.0.0.1:8444/alerts",)
    assert settings(database=DATABASE).bots == (
        "https://10.0.0.1:8444/alerts",
        "https://10.0.0.2:8444/alerts",
    )


def test_bot_on_the_same_host_is_reached_over_loopback() -> None:
    alone = settings_for(monitored({"all": ["runtime", "nginx", "monitoring"]}), "all")
    assert alone
    assert alone.bots == ("http://127.0.0.1:8080/alerts",)
    assert "tls_config" not in config(alone)


def test_configuration_contains_no_secret() -> None:
    token = ALERTS["token"]
    assert token not in config(settings())
    assert token not in repr(settings())


@pytest.mark.parametrize(
    ("language", "alerts", "spoken"),
    [("auto", {}, "en"), ("zh", {}, "zh"), ("zh", {"language": "en"}, "en")],
)
def test_bot_settings_contain_language_and_receivers_of_alerts(
    language: str, alerts: dict[str, str], spoken: str
) -> None:
    declared = monitored(bot={"language": language}, monitoring={"alerts": {**ALERTS, **alerts}})
    runtime = runtime_for(declared, "bot1")
    assert runtime
    assert runtime.alerts
    assert runtime.alerts.language == spoken
    assert '"telegram_chat": -100' in bot_config(runtime)
    assert ALERTS["token"] not in bot_config(runtime)
    assert runtime.credentials["alerts-token"].get_secret_value() == ALERTS["token"]


def test_bot_has_no_alerts_channel_without_a_monitoring_host() -> None:
    declared = inventory(monitoring={"alerts": ALERTS})
    assert alerts_credentials(declared) == {}
    runtime = runtime_for(declared, "bot1")
    assert runtime
    assert runtime.alerts is None


def test_custom_bot_webhook_is_a_credential_and_not_in_the_bot_configuration() -> None:
    hook = "https://open.feishu.cn/open-apis/bot/v2/hook/1"
    more = {"feishu_webhook": hook, "feishu_webhook_secret": "s"}
    runtime = runtime_for(monitored(monitoring={"alerts": {**ALERTS, **more}}), "bot1")
    assert runtime
    assert {"alerts-feishu-webhook", "alerts-feishu-secret"} <= runtime.credentials.keys()
    assert hook not in bot_config(runtime)
    assert '"custom_bot_signs": true' in bot_config(runtime)
