"""Telegram and Feishu, as stand-ins where the hosts of a deployment reach them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.standins.control import Control
from tests.standins.feishu.app import FeishuStandin
from tests.standins.feishu.state import Credentials
from tests.standins.outbound import Reach
from tests.standins.serve import serving
from tests.standins.telegram.app import TelegramStandin
from tests.standins.telegram.webhook import Rules

TELEGRAM_PORT, FEISHU_PORT, MODEL_PORT = 8081, 8082, 8083


@contextmanager
def telegram_at(address: str, token: str, reach: Reach | None = None) -> Iterator[Control]:
    """The Telegram of the bot with `token`; hosts may have reserved addresses there."""
    stand_in = TelegramStandin([token], Rules(reach or Reach(), reserved_addresses=True, pace=0.1))
    with serving(stand_in.app, host=address, port=TELEGRAM_PORT) as url, Control(url) as control:
        yield control


@contextmanager
def feishu_at(address: str, app: Credentials, reach: Reach) -> Iterator[Control]:
    """The Feishu of `app`."""
    stand_in = FeishuStandin(app, reach, pace=0.01)
    with serving(stand_in.app, host=address, port=FEISHU_PORT) as url, Control(url) as control:
        yield control
