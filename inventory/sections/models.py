"""The section `models` of an inventory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, SecretStr

from inventory.types import Declared, Digest, Download, Endpoint, Line, ModelName, PlatformId, Size


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


class KeptStates(Declared):
    """What the engine keeps of conversations that have lost their slot, to continue them without reading."""

    memory: Size | None = Field(
        None, description="Memory for them, within `memory_max`; by default a tenth of that, at most 1G."
    )
    disk: Size | Literal["none"] = Field(
        "4G",
        description="Disk space for them in /var/lib/clawd-engine, readable by the engine only; with `none` "
        "they end with the engine.",
    )
    days: Annotated[int, Field(ge=1, le=365)] = Field(
        7, description="Days after its last use in which a state is deleted."
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
    states: KeptStates | Literal["none"] = Field(
        KeptStates(), description="States of conversations that the engine keeps; `none` turns that off."
    )


class Leaving(Declared):
    """What may be sent to a remote model. Users and groups are `CHANNEL:ID`, with the ids of the platform."""

    channels: tuple[Literal["telegram", "feishu", "console"], ...] | None = Field(
        None, description="Channels whose messages it may answer; all by default."
    )
    users: tuple[PlatformId, ...] | None = Field(
        None, description="Users whose messages it may answer, as `CHANNEL:USER`; all by default."
    )
    groups: tuple[PlatformId, ...] | None = Field(
        None,
        description="Groups in which it may answer, as `CHANNEL:CHAT`; all by default, `[]` for none.",
    )
    redact: tuple[Literal["email", "phone", "id_number", "bank_card", "ip_address"], ...] = Field(
        (), description="What is replaced in messages and history before they are sent."
    )
    mark: bool = Field(True, description="Answers name the model and that it runs outside.")


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
    answers_at_once: Annotated[int, Field(ge=1, le=512)] = Field(
        32, description="Number of conversations that it answers at the same time; others wait."
    )
    leaving: Leaving | None = Field(
        None, description="What may be sent to it; everything, and answers are not marked, when absent."
    )


DeclaredModel = Annotated[LocalModel | RemoteModel, Field(discriminator="engine")]


class Models(Declared):
    """The language models that answer. Further ones have any other name, and get shares in `routes`."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, DeclaredModel] = Field(init=False)

    default: DeclaredModel = Field(description="Model that normally answers.")
    fallback: DeclaredModel | None = Field(None, description="Model that answers while the default cannot.")

    @property
    def further(self) -> Mapping[str, DeclaredModel]:
        """Return the models that are neither the default nor the fallback."""
        return self.__pydantic_extra__

    def named(self) -> Mapping[str, DeclaredModel]:
        """Return all models by name, the default first."""
        fallback = {} if self.fallback is None else {"fallback": self.fallback}
        return {"default": self.default, **fallback, **self.further}

    def local(self) -> Mapping[str, LocalModel]:
        """Return the models that the runtime hosts serve themselves, by name, in the same order."""
        return {name: model for name, model in self.named().items() if isinstance(model, LocalModel)}


class RouteJudge(Declared):
    """How much worse than the default a model with a share may be, before its share is taken away."""

    window_seconds: Annotated[int, Field(ge=10, le=86_400)] = Field(
        600, description="The answers of this time are compared."
    )
    least: Annotated[int, Field(ge=3, le=10_000)] = Field(
        20, description="Number of answers within that time before it decides."
    )
    errors: Annotated[float, Field(ge=0, le=1)] = Field(
        0.05, description="How much larger its share of failed requests may be."
    )
    cut: Annotated[float, Field(ge=0, le=1)] = Field(
        0.1, description="How much larger its share of empty or cut answers may be."
    )
    slower: Annotated[float, Field(ge=1, le=100)] = Field(
        1.5,
        description="Factor by which its median times to the first token and of the answer may be longer.",
    )


class Routes(Declared):
    """Which model answers which share of conversations. The bots read it without a restart."""

    version: Annotated[int, Field(ge=1, le=2**31 - 1)] = Field(
        1,
        description="Version, stored with every answer. Raise it with every change: a verdict of the judge "
        "applies to one version.",
    )
    shares: dict[ModelName, Annotated[int, Field(ge=0, le=100)]] = Field(
        {},
        description="Percentage of conversations that each further model answers; the rest is the default's.",
    )
    judge: RouteJudge = Field(RouteJudge(), description="When a model loses its share.")
