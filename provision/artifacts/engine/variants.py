"""The variants of llama.cpp's code for processors, and which one a processor runs.

llama.cpp compiles this code once for each set of instructions, and the engine loads the variant with the
highest score on its host. Names and features are those of `ggml/src/CMakeLists.txt`
(`ggml_add_cpu_backend_variant`), scores those of `ggml/src/ggml-cpu/arch/*/cpu-feats.cpp`, in the source of
llama-cpp-python `COMPARED_WITH`.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Collection
from pathlib import Path

COMPARED_WITH = "0.3.36"
"""The version of llama-cpp-python whose source these tables were compared with."""

ALL = ""
"""The value of `HostKind.cpu` for an engine with every variant."""

_FEATURES: dict[str, dict[str, tuple[str, ...]]] = {
    "x86_64": {
        "FMA": ("fma",),
        "F16C": ("f16c",),
        "SSE42": ("sse4_2",),
        "BMI2": ("bmi2",),
        "AVX": ("avx",),
        "AVX2": ("avx2",),
        "AVX_VNNI": ("avx_vnni",),
        "AVX512": ("avx512f", "avx512cd", "avx512vl", "avx512dq", "avx512bw"),
        "AVX512_VBMI": ("avx512vbmi",),
        "AVX512_BF16": ("avx512_bf16",),
        "AVX512_VNNI": ("avx512_vnni",),
        "AMX_INT8": ("amx_tile", "amx_int8"),
    },
    "aarch64": {
        "DOTPROD": ("asimddp",),
        "FP16": ("asimdhp",),
        "SVE": ("sve",),
        "MATMUL_INT8": ("i8mm",),
        "SVE2": ("sve2",),
        "SME": ("sme",),
    },
}
"""For each feature of llama.cpp its names in /proc/cpuinfo. Each scores more than all before it together."""

_HASWELL = "SSE42 AVX F16C FMA AVX2 BMI2"
_VARIANTS = {
    "x86_64": {
        "x64": "",
        "sse42": "SSE42",
        "sandybridge": "SSE42 AVX",
        "ivybridge": "SSE42 AVX F16C",
        "piledriver": "SSE42 AVX F16C FMA",
        "haswell": _HASWELL,
        "skylakex": f"{_HASWELL} AVX512",
        "cannonlake": f"{_HASWELL} AVX512 AVX512_VBMI",
        "cascadelake": f"{_HASWELL} AVX512 AVX512_VNNI",
        "icelake": f"{_HASWELL} AVX512 AVX512_VBMI AVX512_VNNI",
        "cooperlake": f"{_HASWELL} AVX512 AVX512_VNNI AVX512_BF16",
        "zen4": f"{_HASWELL} AVX512 AVX512_VBMI AVX512_VNNI AVX512_BF16",
        "alderlake": f"{_HASWELL} AVX_VNNI",
        "sapphirerapids": f"{_HASWELL} AVX512 AVX512_VBMI AVX512_VNNI AVX512_BF16 AMX_INT8",
    },
    "aarch64": {
        "armv8.0_1": "",
        "armv8.2_1": "DOTPROD",
        "armv8.2_2": "DOTPROD FP16",
        "armv8.2_3": "DOTPROD FP16 SVE",
        "armv8.6_1": "DOTPROD FP16 SVE MATMUL_INT8",
        "armv8.6_2": "DOTPROD FP16 SVE MATMUL_INT8 SVE2",
        "armv9.2_1": "DOTPROD FP16 SVE MATMUL_INT8 SME",
        "armv9.2_2": "DOTPROD FP16 SVE MATMUL_INT8 SVE2 SME",
    },
}
"""For each architecture the variants and the features that they require; the first runs on all processors."""


def built_for(architecture: str, cpu: str) -> tuple[str, ...]:
    """Return the variants in an engine for `cpu`: all, or the one for every processor and that of `cpu`."""
    known = tuple(_VARIANTS[architecture])
    return known if cpu == ALL else tuple(name for name in known if name in {known[0], cpu})


def best(architecture: str, flags: Collection[str]) -> str:
    """Return the variant that llama.cpp loads on a processor with these flags of /proc/cpuinfo."""
    scores = {feature: 1 << place for place, feature in enumerate(_FEATURES[architecture])}
    runs = {
        feature for feature, names in _FEATURES[architecture].items() if all(name in flags for name in names)
    }
    required = {name: set(features.split()) for name, features in _VARIANTS[architecture].items()}
    able = [name for name, features in required.items() if features <= runs]
    return max(able, key=lambda name: sum(scores[feature] for feature in required[name]))


def of_this_machine() -> str:
    """Return the variant for the processor of this machine; `ALL` when it cannot be determined."""
    try:
        return of_cpuinfo(platform.machine(), Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    except OSError:
        return ALL


def of_cpuinfo(architecture: str, cpuinfo: str) -> str:
    """Return the variant that runs on all processors in the text of /proc/cpuinfo; `ALL` without any."""
    lines = re.findall(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, re.MULTILINE)
    if architecture not in _VARIANTS or not lines:
        return ALL
    return best(architecture, set.intersection(*(set(line.split()) for line in lines)))
