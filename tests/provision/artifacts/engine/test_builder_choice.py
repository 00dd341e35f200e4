from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inventory.errors import ArtifactError
from provision.artifacts.engine.builder_choice import BuildMachine, choose_builders
from provision.artifacts.host_kind import HostKind

BOOKWORM = HostKind("x86_64", (3, 11), (2, 36))
TRIXIE = HostKind("x86_64", (3, 13), (2, 41))
BOOKWORM_ARM = HostKind("aarch64", (3, 11), (2, 36))

TRIXIE_ARM = HostKind("aarch64", (3, 13), (2, 41))
ADA = "cuda12.9-80.86.89.90"
GPU = replace(BOOKWORM, cuda=ADA)
HERE = replace(BOOKWORM, cpu="zen4")
KINDS = st.sampled_from(
    [
        *(BOOKWORM, TRIXIE, BOOKWORM_ARM, TRIXIE_ARM, GPU, replace(TRIXIE, cuda="cuda13.1-75")),
        *(HERE, replace(TRIXIE, cpu="zen4"), replace(TRIXIE, cpu="haswell"), replace(GPU, cpu="zen4")),
    ]
)


def test_this_machine_builds_for_hosts_that_are_not_older() -> None:
    choice = choose_builders([BOOKWORM, TRIXIE], BOOKWORM, {})
    assert choice.builds == (BuildMachine(BOOKWORM),)
    assert choice.built_on == {BOOKWORM: BOOKWORM, TRIXIE: BOOKWORM}


def test_oldest_host_builds_when_this_machine_is_too_new() -> None:
    hosts = {"new": TRIXIE, "old": BOOKWORM}
    choice = choose_builders([BOOKWORM, TRIXIE], TRIXIE, hosts)
    assert choice.builds == (BuildMachine(BOOKWORM, "old"),)
    assert choice.built_on == {BOOKWORM: BOOKWORM, TRIXIE: BOOKWORM}


def test_host_of_each_architecture_builds_when_the_laptop_cannot() -> None:
    hosts = {"b": BOOKWORM, "a": BOOKWORM, "arm": BOOKWORM_ARM}
    choice = choose_builders(hosts.values(), None, hosts)
    assert set(choice.builds) == {BuildMachine(BOOKWORM, "a"), BuildMachine(BOOKWORM_ARM, "arm")}


def test_cached_build_is_used_also_when_an_older_host_is_added() -> None:
    assert choose_builders([TRIXIE], None, {}, [BOOKWORM]).built_on == {TRIXIE: BOOKWORM}
    assert choose_builders([TRIXIE], None, {}, [TRIXIE]).built_on == {TRIXIE: TRIXIE}
    later = choose_builders([BOOKWORM, TRIXIE], BOOKWORM, {}, [TRIXIE])
    assert later.built_on == {BOOKWORM: BOOKWORM, TRIXIE: TRIXIE}
    assert choose_builders([TRIXIE], BOOKWORM, {}, [BOOKWORM, TRIXIE]).built_on == {TRIXIE: TRIXIE}


def test_missing_builder_for_an_architecture_is_an_error() -> None:
    with pytest.raises(ArtifactError, match=r"aarch64 with glibc 2\.36"):
        choose_builders([BOOKWORM_ARM], BOOKWORM, {"a": BOOKWORM})


def test_host_with_a_gpu_builds_for_its_gpu() -> None:
    choice = choose_builders([BOOKWORM, GPU], BOOKWORM, {"plain": BOOKWORM, "gpu": GPU})
    assert set(choice.builds) == {BuildMachine(BOOKWORM), BuildMachine(GPU, "gpu")}
    assert choice.built_on == {BOOKWORM: BOOKWORM, GPU: GPU}


def test_machine_with_a_cuda_compiler_builds_for_gpus() -> None:
    assert choose_builders([GPU], BOOKWORM, {"gpu": GPU}, compilers={ADA}).builds == (BuildMachine(GPU),)
    # Its C library is too new.
    assert choose_builders([GPU], TRIXIE, {"gpu": GPU}, compilers={ADA}).builds == (BuildMachine(GPU, "gpu"),)


def test_builds_for_cpus_and_other_gpus_are_not_used_for_a_gpu() -> None:
    other = replace(BOOKWORM, cuda="cuda12.9-75")
    assert choose_builders([GPU], None, {"gpu": GPU}, [BOOKWORM, other]).builds == (BuildMachine(GPU, "gpu"),)
    assert choose_builders([GPU], None, {}, [GPU]).builds == ()
    assert choose_builders([BOOKWORM], BOOKWORM, {}, [GPU]).builds == (BuildMachine(BOOKWORM),)


def test_hosts_on_this_machine_get_a_build_for_its_processor() -> None:
    newer = replace(TRIXIE, cpu="zen4")
    choice = choose_builders([HERE, newer], BOOKWORM, {"bot1": HERE, "bot2": newer})
    assert choice.builds == (BuildMachine(HERE),)
    assert choice.built_on == {HERE: HERE, newer: HERE}


def test_a_build_for_one_processor_never_serves_another_host() -> None:
    elsewhere = replace(BOOKWORM, cpu="haswell")
    for kind in (BOOKWORM, elsewhere):
        choice = choose_builders([kind], BOOKWORM, {}, [HERE])
        assert choice.builds == (BuildMachine(kind),)
        assert choice.built_on == {kind: kind}


def test_a_build_for_all_processors_serves_hosts_on_this_machine_too() -> None:
    assert choose_builders([HERE], BOOKWORM, {}, [BOOKWORM]).built_on == {HERE: BOOKWORM}
    assert choose_builders([HERE], BOOKWORM, {}, [HERE, BOOKWORM]).built_on == {HERE: BOOKWORM}
    newer = replace(TRIXIE, cpu="zen4")
    assert choose_builders([newer], BOOKWORM, {}, [newer, BOOKWORM]).built_on == {newer: BOOKWORM}


def test_hosts_here_and_elsewhere_share_one_build_for_all_processors() -> None:
    hosts = {"bot1": HERE, "prod": BOOKWORM}
    choice = choose_builders(hosts.values(), BOOKWORM, hosts)
    assert choice.builds == (BuildMachine(BOOKWORM),)
    assert choice.built_on == {HERE: BOOKWORM, BOOKWORM: BOOKWORM}


def test_a_host_on_this_machine_builds_for_others_with_all_variants() -> None:
    hosts = {"bot1": HERE, "prod": TRIXIE}
    assert choose_builders(hosts.values(), None, hosts).builds == (BuildMachine(BOOKWORM, "bot1"),)


@given(st.lists(KINDS, min_size=1), st.none() | KINDS, st.lists(KINDS))
def test_every_host_gets_a_build_it_can_run(
    kinds: list[HostKind], this_machine: HostKind | None, there: list[HostKind]
) -> None:
    hosts = {f"host{number}": kind for number, kind in enumerate(kinds)}
    choice = choose_builders(kinds, this_machine, hosts, there)
    assert set(choice.built_on) == set(kinds)
    assert all(kind.runs_builds_of(built_on) for kind, built_on in choice.built_on.items())
    built = [(place.kind.architecture, place.kind.cuda) for place in choice.builds]
    assert len(built) == len(set(built))
    assert {*there, *(place.kind for place in choice.builds)} >= set(choice.built_on.values())
    assert all(
        place.host is None or replace(hosts[place.host], cpu=place.kind.cpu) == place.kind
        for place in choice.builds
    )
