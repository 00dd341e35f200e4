"""Which tier of models runs on which host, how fast, and why. Pure.

The tiers are represented by models that are typical of their size. Speeds are estimates: generation reads
all weights for each token, so that the memory's bandwidth limits it; reading a prompt is limited by
arithmetic. The rates of processors are those of two cores of an AMD EPYC (Zen 4) with SmolLM2: 34 GB/s,
100 to 240 GFLOP/s, of which one stream reached 35 to 46 %; larger models reach more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from deploys.resources import HostResources
from inventory.model import Inventory
from inventory.model_files.footprint import GPU_PROCESS, Footprint, Tier, footprint, size
from inventory.model_files.gguf import GgufHeader, Shape
from provision.model_tools.kinds import BITS
from provision.preflight.capacity import capacity_of

FitVerdict = Literal["good", "slow", "no", "unknown"]
ComputePlace = Literal["GPU", "processor"]

COMFORTABLE = 5.0
"""Tokens a second that people read along with."""
PROMPT = 200
"""Tokens of a prompt whose first answer token is estimated."""
PATIENCE = 10.0
"""Seconds that people wait for that token."""
CORE_BANDWIDTH, MOST_BANDWIDTH = 17e9, 80e9
"""Bytes a second that one core reads, and that all cores of a server read together."""
CORE_ARITHMETIC = 50e9
"""Floating-point operations a second of one core with quantised weights."""
EFFICIENCY = (0.45, 0.75)
"""The part of the bandwidth that generation reaches, at least and at most."""
GPU_BANDWIDTH = (300e9, 1000e9)
GPU_ARITHMETIC = (20e12, 100e12)
"""Rates of NVIDIA's cards for servers, from a small one (T4) to a large one."""


@dataclass(frozen=True, slots=True)
class TierModel:
    """The model that represents a tier, in numbers."""

    tier: Tier
    name: str
    parameters: int
    shape: Shape
    context_length: int

    def footprint(self, kind: str, *, context: int, slots: int) -> Footprint:
        """Return the memory that the model needs in a quantisation."""
        weights = int(self.parameters * BITS[kind] / 8)
        header = GgufHeader(
            3, "", self.name, 0, None, 1, weights, self.parameters, self.context_length, self.shape
        )
        return footprint(header, context_size=context, parallel=slots, file_size=weights)


TIERS = (
    TierModel("light", "Qwen2.5 7B", 7_615_616_512, Shape((4,) * 28, 128, 128, 3584, 18944, 152064), 32768),
    TierModel(
        "balanced", "Llama 2 13B", 13_015_864_320, Shape((40,) * 40, 128, 128, 5120, 13824, 32000), 4096
    ),
    TierModel(
        "professional",
        "Llama 3.1 70B",
        70_553_706_496,
        Shape((8,) * 80, 128, 128, 8192, 28672, 128256),
        131072,
    ),
)


@dataclass(frozen=True, slots=True)
class FitSettings:
    """The quantisation, and the conversations: `slots` at the same time, of `context` tokens each."""

    kind: str = "Q4_K_M"
    context: int = 4096
    slots: int = 4


@dataclass(frozen=True, slots=True)
class HostMachine:
    """A host: its resources, its cores (`None` when unknown), and whether they were found or declared."""

    resources: HostResources
    cores: int | None
    source: Literal["declared", "found"]


@dataclass(frozen=True, slots=True)
class TierFit:
    """Whether a tier runs on a host.

    `needed` and `available` are bytes of `place`'s memory; `available` is what other components and the
    headroom leave. Speeds are tokens a second, at least and at most; `None` when they are unknown.
    """

    tier: Tier
    model: str
    verdict: FitVerdict
    place: ComputePlace
    needed: int
    available: int | None
    generation: tuple[float, float] | None
    prompt: tuple[float, float] | None
    why: str


@dataclass(frozen=True, slots=True)
class HostFit:
    """Which tiers run on a host. `recommended` is the largest one that is comfortable there, if any."""

    host: str
    machine: HostMachine
    has_runtime: bool
    tiers: tuple[TierFit, ...]

    @property
    def recommended(self) -> Tier | None:
        """Return the largest tier with a good verdict."""
        good = [fit.tier for fit in self.tiers if fit.verdict == "good"]
        return good[-1] if good else None

    def to_json(self) -> dict[str, Any]:
        """Return the fit as plain data. Sizes are in bytes, speeds in tokens a second."""
        resources = self.machine.resources
        return {
            "host": self.host,
            "source": self.machine.source,
            "cores": self.machine.cores,
            "memory": resources.memory.size if resources.memory else None,
            "gpu_memory": resources.gpu_memory.size if resources.gpu_memory else None,
            "has_runtime": self.has_runtime,
            "recommended": self.recommended,
            "tiers": [asdict(fit) for fit in self.tiers],
        }


def fit(
    inventory: Inventory, settings: FitSettings, machines: Mapping[str, HostMachine] | None = None
) -> list[HostFit]:
    """Return for every host which tiers run there: on `machines` that were found, else on declared ones."""
    found = machines or {}
    return [
        _host_fit(inventory, host, settings, found.get(host) or declared(inventory, host))
        for host in inventory.hosts
    ]


def declared(inventory: Inventory, host: str) -> HostMachine:
    """Return the machine that the inventory declares."""
    item = inventory.hosts[host]
    return HostMachine(HostResources.declared(item), item.cores, "declared")


def _host_fit(inventory: Inventory, host: str, settings: FitSettings, machine: HostMachine) -> HostFit:
    capacity = capacity_of(inventory, host, machine.resources)
    others = sum(item.need.memory for item in capacity.placed if item.component != "model")
    memory = machine.resources.memory
    left = memory.size - others - capacity.headroom if memory else None
    gpu = machine.resources.gpu_memory
    on_gpu = gpu.size if gpu and inventory.hosts[host].gpu != "none" else None
    tiers = tuple(_tier_fit(model, settings, machine.cores, left, on_gpu) for model in TIERS)
    return HostFit(host, machine, "runtime" in inventory.hosts[host].roles, tiers)


def _tier_fit(
    model: TierModel, settings: FitSettings, cores: int | None, left: int | None, gpu: int | None
) -> TierFit:
    context = min(settings.context, model.context_length)
    taken = model.footprint(settings.kind, context=context, slots=settings.slots)
    of_gpu = taken.weights + taken.kv_cache + taken.buffers
    is_on_gpu = gpu is not None and of_gpu <= gpu and (left is None or left >= GPU_PROCESS)
    place: ComputePlace = "GPU" if is_on_gpu else "processor"
    needed, available = (of_gpu, gpu) if is_on_gpu else (taken.total, left)
    generation, prompt = _speeds(model, taken, place, cores)
    verdict, why = _verdict(needed, available, generation, prompt)
    if gpu is not None and not is_on_gpu:
        why += f"; the GPU has {size(gpu)}, too little for {size(of_gpu)}"
    if context < settings.context:
        why += f"; with a context of {context}, for which it is trained"
    return TierFit(model.tier, model.name, verdict, place, needed, available, generation, prompt, why)


def _speeds(
    model: TierModel, taken: Footprint, place: ComputePlace, cores: int | None
) -> tuple[tuple[float, float] | None, tuple[float, float] | None]:
    """Return the tokens a second of generation and of reading a prompt; `None` when the cores are unknown."""
    operations = 2.0 * model.parameters
    if place == "GPU":
        rates = zip(GPU_BANDWIDTH, EFFICIENCY, strict=True)
        low, high = (rate * part / taken.weights for rate, part in rates)
        return (low, high), (GPU_ARITHMETIC[0] / operations, GPU_ARITHMETIC[1] / operations)
    if cores is None:
        return None, None
    bandwidth = min(cores * CORE_BANDWIDTH, MOST_BANDWIDTH)
    low, high = (bandwidth * part / taken.weights for part in EFFICIENCY)
    arithmetic = cores * CORE_ARITHMETIC / operations
    return (low, high), (arithmetic, 2 * arithmetic)


def _verdict(
    needed: int,
    available: int | None,
    generation: tuple[float, float] | None,
    prompt: tuple[float, float] | None,
) -> tuple[FitVerdict, str]:
    if available is None:
        return "unknown", "its memory is not declared: declare `memory:` of the host, or pass --connect"
    if needed > available:
        return "no", f"{size(needed)} needed, {size(max(available, 0))} left by other components and headroom"
    if generation is None or prompt is None:
        return "unknown", "it fits; its cores are not declared: declare `cores:`, or pass --connect"
    if generation[1] < COMFORTABLE:
        return "slow", "it fits, but answers appear more slowly than people read"
    if PROMPT / prompt[1] > PATIENCE:
        return "slow", f"it fits, but answers begin only {PROMPT / prompt[1]:.0f} s after a new prompt"
    return "good", "it fits" if generation[0] >= COMFORTABLE else "it fits, and is just fast enough to read"
