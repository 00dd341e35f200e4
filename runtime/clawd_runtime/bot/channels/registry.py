"""The registry of channels. A new platform is a module next to this one and a line here."""

from __future__ import annotations

from importlib import import_module

from clawd_runtime.bot.channels.base import Channel

CHANNELS = {
    "telegram": "clawd_runtime.bot.channels.telegram.channel:TelegramChannel",
    "feishu": "clawd_runtime.bot.channels.feishu.channel:FeishuChannel",
    "console": "clawd_runtime.bot.channels.console.channel:ConsoleChannel",
    "alerts": "clawd_runtime.bot.channels.alerts:AlertsChannel",
}


def channel_class(name: str) -> type[Channel]:
    """Return the class of a channel; imported only when used, because every library takes memory."""
    module, _, attribute = CHANNELS[name].partition(":")
    found: type[Channel] = getattr(import_module(module), attribute)
    return found
