"""Run the bot: `python -m clawd_runtime.bot`."""

from __future__ import annotations

import sys

from clawd_runtime.bot.service.main import main

sys.exit(main())
