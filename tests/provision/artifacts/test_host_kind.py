from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.markers import default_environment

from inventory.errors import ArtifactError
from provision.artifacts.host_kind import PROBE, HostKind

KINDS = st.builds(
    HostKind,
    st.sampled_from(["x86_64", "aarch64"]),
    st.tuples(st.just(3), st.integers(11, 15)),
    st.tuples(st.just(2), st.integers(17, 60)),
    cpu=st.sampled_from(["", "haswell", "zen4"]),
)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("clawd-kind x86_64 64 CPython 3.11 glibc 2.36\n", HostKind("x86_64", (3, 11), (2, 36))),
        ("motd\nclawd-kind aarch64 64 CPython 3.13 glibc 2.41", HostKind("aarch64", (3, 13), (2, 41))),
    ],
)
def test_probe_of_a_supported_host_is_parsed(answer: str, kind: HostKind) -> None:
    assert HostKind.from_probe(answer, where="bot1") == kind


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("clawd-kind x86_64 no-python\n", "python3 is missing"),
        ("clawd-kind x86_64 64 CPython 3.10 glibc 2.35\n", "CPython 3.10"),
        ("clawd-kind x86_64 64 CPython 3.12 other 0\n", "only glibc is"),
        ("clawd-kind x86_64 32 CPython 3.11 glibc 2.36\n", "32-bit x86_64"),
        ("clawd-kind armv7l 32 CPython 3.11 glibc 2.36\n", "armv7l"),
        ("clawd-kind riscv64 64 CPython 3.13 glibc 2.41\n", "riscv64"),
        ("clawd-kind x86_64 64 PyPy 3.11 glibc 2.36\n", "PyPy"),
        ("clawd-kind x86_64 64 CPython 3.11 glibc 2.12\n", "2.12"),
        ("bash: oops", "oops"),
        ("", "cannot determine the kind of host"),
    ],
)
def test_unsupported_host_is_refused_by_name(answer: str, reason: str) -> None:
    with pytest.raises(ArtifactError, match=reason) as caught:
        HostKind.from_probe(answer, where="bot1")
    assert "bot1" in str(caught.value)


@pytest.mark.skipif(sys.platform != "linux", reason="hosts are Linux")
def test_probe_runs_in_a_plain_shell_on_this_machine() -> None:
    done = subprocess.run(["sh", "-c", PROBE], capture_output=True, text=True, check=True)
    probed = HostKind.from_probe(done.stdout, where="here")
    here = HostKind.of_this_machine()
    assert here is not None
    assert (probed.architecture, probed.libc_version) == (here.architecture, here.libc_version)
    assert here.python == sys.version_info[:2]


def test_probe_reports_missing_python(tmp_path: Path) -> None:
    uname = tmp_path / "uname"
    uname.write_text("#!/bin/sh\necho x86_64\n")
    uname.chmod(0o755)
    done = subprocess.run(
        ["/bin/sh", "-c", PROBE], env={"PATH": str(tmp_path)}, capture_output=True, text=True
    )
    with pytest.raises(ArtifactError, match="python3 is missing"):
        HostKind.from_probe(done.stdout, where="bot1")


def test_platforms_are_sorted_from_newest_to_oldest() -> None:
    platforms = HostKind("x86_64", (3, 11), (2, 36)).platforms
    assert platforms[0] == "manylinux_2_36_x86_64"
    assert platforms[-2:] == ("manylinux_2_17_x86_64", "manylinux2014_x86_64")
    assert len(platforms) == 21


def test_pip_options_describe_the_host() -> None:
    options = HostKind("aarch64", (3, 13), (2, 17)).pip_options
    assert options == (
        "--platform", "manylinux_2_17_aarch64", "--platform", "manylinux2014_aarch64",
        "--python-version", "3.13", "--implementation", "cp", "--abi", "cp313",
    )  # fmt: skip


@given(KINDS)
def test_marker_environment_defines_every_marker(kind: HostKind) -> None:
    assert set(kind.marker_environment) == set(default_environment())


@given(KINDS)
def test_host_kind_survives_json(kind: HostKind) -> None:
    assert HostKind.from_json(kind.to_json()) == kind
    for_gpus = replace(kind, cuda="cuda12.9-75.80")
    assert HostKind.from_json(for_gpus.to_json()) == for_gpus
    assert str(for_gpus) == f"{replace(kind, cuda='', cpu='')}-cuda12.9-75.80" + (
        f"-{kind.cpu}" if kind.cpu else ""
    )


def test_json_of_a_kind_without_gpu_has_no_cuda() -> None:
    """It is part of every release."""
    kind = HostKind("x86_64", (3, 11), (2, 36))
    assert str(kind) == "x86_64-cp311-glibc2.36"
    assert set(kind.to_json()) == {"architecture", "libc", "libc_version", "python"}


@given(KINDS, KINDS, KINDS)
def test_running_builds_of_another_is_a_preorder(a: HostKind, b: HostKind, c: HostKind) -> None:
    assert a.runs_builds_of(a)
    if a.runs_builds_of(b) and b.runs_builds_of(c):
        assert a.runs_builds_of(c)
    if a.runs_builds_of(b):
        assert a.architecture == b.architecture
        assert b.cpu in {"", a.cpu}
        assert set(b.platforms) <= set(a.platforms)
