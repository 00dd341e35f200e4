"""The model that is served: checked on the laptop before any host sees it."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from deploys.supplies import ModelFile
from inventory.errors import ArtifactError
from inventory.gguf import read_header, unservable
from inventory.model import LocalModel
from provision.artifacts.cache import Cache, sha256_of
from provision.artifacts.progress import Tell, silent

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")


def model_file(model: LocalModel, progress: Tell = silent, *, cache: Cache | None = None) -> ModelFile:
    """What hosts are given for `model`.

    A file on the laptop is read once for its digest; after that only when its size or time changes. Raises
    ArtifactError when it is missing, no chat model in GGUF, or has another digest than declared.
    """
    name = _NOT_IN_NAMES.sub("-", model.path.stem).strip(".-") or "model"
    if model.url is not None:
        if model.sha256 is None:
            raise ArtifactError(
                f"the model {model.url}: `sha256` is missing",
                advice="give the digest that the file must have",
            )
        return ModelFile(name, model.sha256, None, url=model.url)
    path = model.path
    if not path.is_file():
        raise ArtifactError(
            f"the model {path}: there is no such file",
            advice="put it there, or give `url` and `sha256` to have hosts fetch it",
        )
    if (verdict := unservable(read_header(path))) is not None:
        raise ArtifactError(f"the model {path}: {verdict[0]}", advice=verdict[1])
    digest = cached_sha256(path, cache or Cache.default(), progress)
    if model.sha256 is not None and digest != model.sha256:
        raise ArtifactError(
            f"the model {path}: its SHA-256 is {digest}, and {model.sha256} is declared",
            advice="fetch the file again, or correct `sha256` if the model was changed on purpose",
        )
    return ModelFile(name, digest, path.stat().st_size, source=path)


def cached_sha256(path: Path, cache: Cache, progress: Tell = silent) -> str:
    """The digest of a large file, remembered for its path, size and time of change."""
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
