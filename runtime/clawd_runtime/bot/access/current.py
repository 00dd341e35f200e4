"""The table of access in use, read again when its file changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from clawd_runtime.bot.access.file import AccessTable, load_access
from clawd_runtime.bot.watched_file import WatchedFile
from clawd_runtime.errors import SettingsError

log = logging.getLogger(__name__)

LOOK_EVERY = 2.0


class CurrentAccess:
    """The table in a file; without a file there is none, and everybody may use the bot.

    `on_load` is called with whether the file can be used; if not, the last table stays in use.
    """

    def __init__(self, path: Path | None, on_load: Callable[[bool], None] = lambda _: None) -> None:
        """Load the file; raise `SettingsError` if it cannot be used, because there is no table before it."""
        self._path = path
        self._file = WatchedFile(path)
        self._on_load = on_load
        self.table: AccessTable | None = load_access(path) if path else None
        on_load(True)

    async def keep_current(self) -> None:
        """Load the file whenever it has changed, until cancelled."""
        while self._path is not None:
            await asyncio.sleep(LOOK_EVERY)
            await self.reload_if_changed()

    async def reload_if_changed(self) -> None:
        """Load the file if it has changed since the last call; a file that cannot be used is logged."""
        if self._path is None or not self._file.has_changed():
            return
        try:
            self.table = await asyncio.to_thread(load_access, self._path)
        except SettingsError as error:
            log.error("cannot load the table of access, the last one stays in use: %s", error)
            self._on_load(False)
            return
        self._on_load(True)
        log.info("access: loaded %s", self._path)
