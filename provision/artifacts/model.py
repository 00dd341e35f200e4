"""The model to serve, checked on the laptop before it is pushed to hosts."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from deploys.artifacts import ModelFile
from inventory.errors import ArtifactError
from inventory.model_files.gguf import read_header, unservable
from inventory.sections.models import LocalModel
from provision.local.cache import Cache, sha256_of
from provision.local.report_progress import ReportProgress, silent

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")


def model_file(
    model: LocalModel, progress: ReportProgress = silent, *, cache: Cache | None = None
) -> ModelFile:
    """Return the model file for hosts.

    The digest of a file on the laptop is computed once, and again only when its size or time changes. Raises
    `ArtifactError` when the file is missing, not a chat model in GGUF, or has another digest than declared.
    """
    name = _NOT_IN_NAMES.sub("-", model.path.stem).strip(".-") or "model"
    if model.url is not None:
        if model.sha256 is None:
            raise ArtifactError(
                f"the model {model.url}: `sha256` is missing",
                advice="add the digest of the file",
            )
        return ModelFile(name, model.sha256, None, url=model.url)
    path = model.path
    if not path.is_file():
        raise ArtifactError(
            f"the model {path}: the file does not exist",
            advice="store it there, or write `url` and `sha256` to let hosts download it",
        )
    if (verdict := unservable(read_header(path))) is not None:
        raise ArtifactError(f"the model {path}: {verdict[0]}", advice=verdict[1])
    digest = cached_sha256(path, cache or Cache.default(), progress)
    if model.sha256 is not None and digest != model.sha256:
        raise ArtifactError(
            f"the model {path}: its SHA-256 is {digest}, but {model.sha256} is declared",
            advice="download the file again, or correct `sha256` if the model was changed on purpose",
        )
    return ModelFile(name, digest, path.stat().st_size, source=path)


def cached_sha256(path: Path, cache: Cache, progress: ReportProgress = silent) -> str:
    """Return the digest of a large file, cached by its path, size and modification time."""
    status = path.stat()
    identity = [str(path.resolve()), status.st_size, status.st_mtime_ns, status.st_ino]
    key = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:32]
    record = cache.entry("digests", key) / "digest.json"
    try:
        known = json.loads(record.read_text(encoding="utf-8"))
        if known["of"] == identity:
            return str(known["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    digest = sha256_of(path, progress)
    with cache.making("digests", key) as entry:
        (entry / record.name).write_text(json.dumps({"of": identity, "sha256": digest}), encoding="utf-8")
    return digest
