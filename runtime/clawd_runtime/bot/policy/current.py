"""The policy in force, read again when its file changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from clawd_runtime.bot.policy.file import Policy, empty_policy, load_policy
from clawd_runtime.bot.watched_file import WatchedFile
from clawd_runtime.errors import SettingsError

log = logging.getLogger(__name__)

LOOK_EVERY = 2.0


class CurrentPolicy:
    """The policy in a file, or without a file the protection of credentials alone.

    `on_load` is called with the policy that a file contains, or with None if the file cannot be used; then
    the last policy stays in force.
    """

    def __init__(
        self,
        path: Path | None,
        credentials: Mapping[str, str],
        on_load: Callable[[Policy | None], None] = lambda _: None,
    ) -> None:
        """Load the file; raise `SettingsError` if it cannot be used, because nothing else is in force yet."""
        self._path = path
        self._credentials = credentials
        self._on_load = on_load
        self._file = WatchedFile(path)
        self._policy = load_policy(path, credentials) if path else empty_policy(credentials)
        on_load(self._policy)

    @property
    def policy(self) -> Policy:
        """Return the policy in force now."""
        return self._policy

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
            loaded = await asyncio.to_thread(load_policy, self._path, self._credentials)
        except SettingsError as error:
            log.error("cannot load the policy, version %s stays in force: %s", self._policy.version, error)
            self._on_load(None)
            return
        self._policy = loaded
        self._on_load(loaded)
        log.info("policy version %s is in force: %d words", loaded.version, len(loaded.words))
