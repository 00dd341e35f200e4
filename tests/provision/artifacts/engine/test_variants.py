"""Which variant of llama.cpp's code a processor runs, from the flags in its /proc/cpuinfo."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provision.artifacts import lockfile
from provision.artifacts.engine import variants
from provision.artifacts.runtime_source import ENGINE, RuntimeSource

SANDY_BRIDGE = "fpu sse sse2 ssse3 sse4_1 sse4_2 popcnt avx"
HASWELL = f"{SANDY_BRIDGE} f16c fma movbe bmi1 bmi2 avx2"
SKYLAKE_X = f"{HASWELL} avx512f avx512dq avx512cd avx512bw avx512vl"
ZEN_4 = f"{SKYLAKE_X} avx512vbmi avx512_vnni avx512_bf16 avx512_vbmi2"
GRAVITON_3 = "fp asimd asimdhp asimddp sve i8mm bf16"


@pytest.mark.parametrize(
    ("architecture", "flags", "variant"),
    [
        ("x86_64", "fpu sse sse2", "x64"),
        ("x86_64", "fpu sse sse2 ssse3 sse4_1 sse4_2", "sse42"),
        ("x86_64", SANDY_BRIDGE, "sandybridge"),
        ("x86_64", f"{SANDY_BRIDGE} f16c", "ivybridge"),
        ("x86_64", f"{SANDY_BRIDGE} f16c fma fma4", "piledriver"),
        ("x86_64", HASWELL, "haswell"),
        ("x86_64", f"{HASWELL} avx_vnni", "alderlake"),
        ("x86_64", f"{HASWELL} avx512f", "haswell"),  # Knights Landing has no BW, DQ and VL
        ("x86_64", SKYLAKE_X, "skylakex"),
        ("x86_64", f"{SKYLAKE_X} avx512_vnni", "cascadelake"),
        ("x86_64", f"{SKYLAKE_X} avx512_vnni avx512_bf16", "cooperlake"),
        ("x86_64", f"{SKYLAKE_X} avx512vbmi avx512_vnni", "icelake"),
        ("x86_64", ZEN_4, "zen4"),
        ("x86_64", f"{ZEN_4} avx_vnni amx_tile amx_int8 amx_bf16", "sapphirerapids"),
        ("aarch64", "fp asimd", "armv8.0_1"),
        ("aarch64", "fp asimd asimddp", "armv8.2_1"),
        ("aarch64", "fp asimd asimdhp asimddp", "armv8.2_2"),
        ("aarch64", GRAVITON_3, "armv8.6_1"),
        ("aarch64", f"{GRAVITON_3} sve2", "armv8.6_2"),
    ],
)
def test_variant_with_the_highest_score_is_chosen(architecture: str, flags: str, variant: str) -> None:
    assert variants.best(architecture, flags.split()) == variant


def test_tables_were_compared_with_the_locked_source() -> None:
    """After an update of llama-cpp-python, compare both files that the module names, then its version."""
    locked = lockfile.named(RuntimeSource.of_this_program().locked, ENGINE)
    assert locked.version == variants.COMPARED_WITH


@given(st.sets(st.sampled_from(ZEN_4.split())))
def test_every_processor_has_a_variant(flags: set[str]) -> None:
    assert variants.best("x86_64", flags) in variants.built_for("x86_64", variants.ALL)


def test_an_engine_for_one_processor_has_its_variant_and_the_one_for_every_processor() -> None:
    assert variants.built_for("x86_64", "zen4") == ("x64", "zen4")
    assert variants.built_for("x86_64", "x64") == ("x64",)
    assert variants.built_for("aarch64", "armv8.6_1") == ("armv8.0_1", "armv8.6_1")
    assert len(variants.built_for("x86_64", variants.ALL)) == 14
    assert len(variants.built_for("aarch64", variants.ALL)) == 8


def cpuinfo(*processors: str, name: str = "flags") -> str:
    return "".join(f"processor\t: {n}\n{name}\t\t: {flags}\n\n" for n, flags in enumerate(processors))


def test_a_variant_must_run_on_all_processors_of_the_machine() -> None:
    assert variants.of_cpuinfo("x86_64", cpuinfo(ZEN_4, HASWELL)) == "haswell"
    assert variants.of_cpuinfo("aarch64", cpuinfo(GRAVITON_3, name="Features")) == "armv8.6_1"


@pytest.mark.parametrize(
    ("architecture", "text"), [("riscv64", cpuinfo("rv64")), ("x86_64", ""), ("x86_64", "bugs\t: x")]
)
def test_without_known_flags_all_variants_are_built(architecture: str, text: str) -> None:
    assert variants.of_cpuinfo(architecture, text) == variants.ALL


@pytest.mark.skipif(platform.machine() not in {"x86_64", "aarch64"}, reason="has no engine")
def test_this_machine_has_a_variant() -> None:
    assert Path("/proc/cpuinfo").exists()
    assert variants.of_this_machine() in variants.built_for(platform.machine(), variants.ALL)
