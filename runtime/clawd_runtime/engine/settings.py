"""What `engine.json` says, checked strictly and all at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clawd_runtime.errors import SettingsError

# sizeof(sockaddr_un.sun_path) on Linux, less the closing zero byte.
LONGEST_SOCKET_PATH = 107


class EngineSettings(BaseModel):
    """One engine: which model it serves, where it listens, how much it holds at once.

    `context_size` is tokens a sequence (prompt and answer together), `parallel` how many sequences are
    computed together, `queue` how many more requests may wait. `threads` is compute threads, `None` for one
    per CPU that the process may use. `n_gpu_layers` is how many of the model's layers a GPU computes: 0 none;
    with any other the engine does not serve without a GPU.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, protected_namespaces=())

    socket: Annotated[str, Field(min_length=1, max_length=LONGEST_SOCKET_PATH, pattern="^/")]
    model: Annotated[str, Field(min_length=1, pattern="^/")]
    model_name: Annotated[str, Field(min_length=1)]
    context_size: Annotated[int, Field(ge=256, le=1_048_576)] = 4096
    parallel: Annotated[int, Field(ge=1, le=64)] = 4
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    queue: Annotated[int, Field(ge=0, le=10_000)] = 32
    n_gpu_layers: Literal["all"] | Annotated[int, Field(ge=0, le=10_000)] = 0


def read_settings(path: Path) -> EngineSettings:
    """The settings in the JSON file `path`.

    Raises:
        SettingsError: the file cannot be read, is not JSON, or says something wrong; names every mistake.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise SettingsError(
            f"cannot read the engine's settings {path}: {error.strerror}",
            advice="give a readable file with --config",
        ) from error
    try:
        return EngineSettings.model_validate_json(text)
    except ValidationError as error:
        mistakes = "; ".join(
            f"{'.'.join(str(part) for part in mistake['loc']) or 'the file'}: {mistake['msg']}"
            for mistake in error.errors(include_url=False)
        )
        raise SettingsError(f"{path}: {mistakes}") from error
