"""The section `models` of an inventory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr

from inventory.types import Declared, Digest, Download, Endpoint, Line, Size


class Deadlines(Declared):
    """Time limits of a model, after which the bot uses the fallback."""

    first_token_seconds: Annotated[int, Field(ge=1, le=1800)] | None = Field(
        None,
        description="Maximum time until the first token of an answer, including reasoning, in seconds. "
        "By default 30 with a fallback (60 for a llama-cpp model), else 240.",
    )
    token_gap_seconds: Annotated[int, Field(ge=1, le=1800)] = Field(
        60,
        description="Maximum pause between two tokens, in seconds; after it the incomplete answer is sent.",
    )


class LocalModel(Deadlines):
    """A GGUF file served by clawd-engine on the runtime hosts."""

    engine: Literal["llama-cpp"] = Field(
        "llama-cpp", description="Kind of model: a GGUF file served by clawd-engine on the runtime hosts."
    )
    path: Path = Field(
        description="Path of the GGUF file on the laptop, relative to this file; with `url` only its name is "
        "used."
    )
    url: Download | None = Field(
        None, description="URL from which the host downloads the file, instead of a push from the laptop."
    )
    sha256: Digest | None = Field(None, description="SHA-256 digest of the file; required with `url`.")
    context_size: Annotated[int, Field(ge=256, le=1_048_576)] = Field(
        4096, description="Context of one conversation, in tokens."
    )
    parallel: Annotated[int, Field(ge=1, le=64)] = Field(
        4, description="Number of conversations that are decoded at the same time."
    )
    threads: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        None, description="Number of compute threads; the host's cores by default."
    )
    embeddings: bool = Field(
        False, description="Serve embeddings, too; takes the memory of one more conversation."
    )
    temperature: Annotated[float, Field(ge=0, le=2)] = Field(
        0.3, description="Sampling temperature; 0 gives the same answer every time."
    )
    gpu_layers: Annotated[int, Field(ge=0, le=10_000)] | None = Field(
        None,
        description="Number of layers that the GPU of a host computes (see `gpu`), the output being one; "
        "all by default. The processor computes the others.",
    )
    memory_max: Size = Field("2G", description="Maximum memory of the engine.")


class RemoteModel(Deadlines):
    """A server that speaks the OpenAI chat protocol (vLLM, a provider)."""

    engine: Literal["openai-compatible"] = Field(description="Kind of model: a remote server.")
    endpoint: Endpoint = Field(description="Base URL, ending before /chat/completions; a query is kept.")
    api_key: SecretStr | None = Field(
        None, description="API key, sent as bearer token or, to Azure, as `api-key`."
    )
    model: Line = Field("default", description="Name of the model in requests.")
    context_size: Annotated[int, Field(ge=256)] = Field(
        8192, description="Context of one conversation, in tokens."
    )
    temperature: Annotated[float, Field(ge=0, le=2)] | None = Field(
        None, description="Sampling temperature; the server's default when absent."
    )


DeclaredModel = Annotated[LocalModel | RemoteModel, Field(discriminator="engine")]


class Models(Declared):
    """The language models that answer."""

    default: DeclaredModel = Field(description="Model that normally answers.")
    fallback: DeclaredModel | None = Field(None, description="Model that answers while the default cannot.")
