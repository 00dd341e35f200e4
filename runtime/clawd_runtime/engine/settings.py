"""The settings in `engine.json`, validated strictly, with all mistakes reported at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clawd_runtime.errors import SettingsError

# sizeof(sockaddr_un.sun_path) on Linux, less the closing zero byte.
LONGEST_SOCKET_PATH = 107


class StateSettings(BaseModel):
    """Where and how many states of conversations are kept when they have no slot.

    `memory` and `disk` are bytes; without `folder` or with `disk` 0, states end with the process. A state
    that was not used for `days` is deleted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    memory: Annotated[int, Field(ge=0, le=1 << 50)]
    disk: Annotated[int, Field(ge=0, le=1 << 50)] = 0
    folder: Annotated[str, Field(pattern="^/")] | None = None
    days: Annotated[float, Field(gt=0, le=3650, allow_inf_nan=False)] = 7.0


class EngineSettings(BaseModel):
    """Settings of one engine: the model it serves, its socket and its capacity.

    `context_size` is the tokens per sequence (prompt and answer together), `parallel` the number of sequences
    computed together, `queue` the number of further requests that may wait. `threads` is the number of
    compute threads, `None` for one per usable CPU. `n_gpu_layers` is the number of the model's layers that a
    GPU computes; unless it is 0, the engine does not serve without a GPU. `embeddings`: texts can be
    embedded, which takes the memory of one more sequence. With `api_key_file`, requests must carry the key in
    that file; a relative path is one of systemd's credentials. `states`: kept for conversations that have no
    slot. `memory_needed` is an estimate in bytes: with less room in its control groups, the engine does not
    load the model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, protected_namespaces=())

    socket: Annotated[str, Field(min_length=1, max_length=LONGEST_SOCKET_PATH, pattern="^/")]
    model: Annotated[str, Field(min_length=1, pattern="^/")]
    model_name: Annotated[str, Field(min_length=1)]
    context_size: Annotated[int, Field(ge=256, le=1_048_576)] = 4096
    parallel: Annotated[int, Field(ge=1, le=64)] = 4
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    queue: Annotated[int, Field(ge=0, le=10_000)] = 32
    embeddings: bool = False
    api_key_file: Annotated[str, Field(min_length=1)] | None = None
    n_gpu_layers: Literal["all"] | Annotated[int, Field(ge=0, le=10_000)] = 0
    states: StateSettings = StateSettings(memory=0)
    memory_needed: Annotated[int, Field(ge=0, le=1 << 50)] | None = None


def read_settings(path: Path) -> EngineSettings:
    """Return the settings in the JSON file `path`.

    Raises:
        SettingsError: The file cannot be read, is not JSON or has invalid values; the message names all.

    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise SettingsError(
            f"cannot read the engine's settings {path}: {error.strerror}",
            advice="pass a readable file with --config",
        ) from error
    try:
        return EngineSettings.model_validate_json(text)
    except ValidationError as error:
        mistakes = "; ".join(
            f"{'.'.join(str(part) for part in mistake['loc']) or 'the file'}: {mistake['msg']}"
            for mistake in error.errors(include_url=False)
        )
        raise SettingsError(f"{path}: {mistakes}") from error
