"""The cache of artifacts for hosts: each entry appears completely or not at all."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from inventory.errors import ArtifactError
from provision.local import user
from provision.local.report_progress import ReportProgress, silent

KINDS = ("engine", "wheels", "releases", "toolbox", "models", "digests")
"""The kinds of entries; other folders of the cache are used by other modules."""

_STALE_AFTER = 24 * 3600.0
_CHUNK = 1 << 20


def default_folder() -> Path:
    """Return `$CLAWD_CACHE`, else `clawd-provision` in the user's cache folder, also with sudo."""
    if own := os.environ.get("CLAWD_CACHE"):
        return Path(own).expanduser().absolute()
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base).expanduser().absolute() / "clawd-provision"
    return user.home() / ".cache" / "clawd-provision"


@dataclass(frozen=True, slots=True)
class Cache:
    """A cache with entries in folders `<root>/<kind>/<key>`, and incomplete ones in `<root>/partial`."""

    root: Path

    @classmethod
    def default(cls) -> Cache:
        """Return the user's cache."""
        return cls(default_folder())

    def entry(self, kind: str, key: str) -> Path:
        """Return the folder of an entry, whether it exists or not."""
        return self.root / kind / key

    @contextmanager
    def making(self, kind: str, key: str) -> Iterator[Path]:
        """Yield an empty folder that becomes the entry after the block; after an exception it is removed.

        An existing entry is replaced.
        """
        partial = self._partial()
        work = Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=partial))
        try:
            yield work
            self._publish(work, self.entry(kind, key))
        finally:
            shutil.rmtree(work, ignore_errors=True)

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        """Yield an empty folder that is removed after the block."""
        work = Path(tempfile.mkdtemp(prefix="work-", dir=self._partial()))
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)

    @contextmanager
    def lock(self, name: str, progress: ReportProgress = silent) -> Iterator[None]:
        """Hold a lock against other runs on this machine; report progress while waiting for it.

        The kernel releases the lock when its holder ends, so it is never stale.
        """
        folder = self._folder(self.root / "locks")
        with (folder / name).open("w") as handle:
            user.hand_over(folder / name)
            reported = False
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if not reported:
                        progress(f"waiting for another run that builds {name}")
                        reported = True
                    time.sleep(0.2)
            yield

    def size(self) -> int:
        """Return the size of all entries on disk in bytes."""
        files = (file for kind in KINDS for file in (self.root / kind).rglob("*") if not file.is_dir())
        return sum(file.lstat().st_size for file in files)

    def prune(self, unused_for: float) -> int:
        """Remove entries that were not used for that many seconds; return the number of bytes freed."""
        before = self.size()
        horizon = time.time() - unused_for
        for entry in (entry for kind in KINDS for entry in (self.root / kind).glob("*")):
            with suppress(FileNotFoundError):
                if entry.stat().st_mtime < horizon:
                    shutil.rmtree(entry, ignore_errors=True)
        return before - self.size()

    def used(self, entry: Path) -> None:
        """Mark an entry as used now, for `prune`."""
        os.utime(entry)

    def _partial(self) -> Path:
        folder = self._folder(self.root / "partial")
        horizon = time.time() - _STALE_AFTER
        for left in folder.iterdir():
            if left.stat().st_mtime < horizon:
                shutil.rmtree(left, ignore_errors=True)
        return folder

    def _publish(self, work: Path, entry: Path) -> None:
        self._folder(entry.parent)
        work.chmod(0o755)
        user.hand_over_all(work)
        old = Path(tempfile.mkdtemp(prefix="old-", dir=self._partial()))
        with suppress(FileNotFoundError):
            entry.rename(old / "entry")
        try:
            work.rename(entry)
        except OSError as error:
            if not entry.exists():
                raise ArtifactError(
                    f"cannot write {entry}: {error.strerror}",
                    advice="free disk space, or set CLAWD_CACHE to another folder",
                ) from error
        finally:
            shutil.rmtree(old, ignore_errors=True)

    def _folder(self, folder: Path) -> Path:
        try:
            user.make_folder(folder)
        except OSError as error:
            raise ArtifactError(
                f"cannot create {folder}: {error.strerror}",
                advice="set CLAWD_CACHE to a writable folder",
            ) from error
        return folder


def sha256_of(path: Path, progress: ReportProgress = silent) -> str:
    """Return the SHA-256 digest of a file in lower-case hexadecimal."""
    digest = hashlib.sha256()
    total = path.stat().st_size or 1
    done = 0
    with path.open("rb") as handle:
        while chunk := handle.read(_CHUNK):
            digest.update(chunk)
            done += len(chunk)
            if done % (64 * _CHUNK) < len(chunk):
                progress(f"checking {path.name}", done / total)
    return digest.hexdigest()


def digest_of(*parts: str) -> str:
    """Return a key for the cache: 16 hexadecimal digits of the SHA-256 over length-prefixed parts."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:16]
