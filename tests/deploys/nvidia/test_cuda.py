"""Which CUDA the engine is built with and runs on."""

from __future__ import annotations

import pytest

from deploys.nvidia.cuda import Cuda, cuda_for
from deploys.nvidia.gpus import Gpu, GpuMachine
from inventory.errors import ClawdError
from tests.deploys.nvidia.test_gpus import ADA, BLACKWELL, KEPLER, PASCAL, TURING, VOLTA


def machine(*devices: int, system: str = "debian12") -> GpuMachine:
    return GpuMachine(tuple(Gpu("0000:01:00.0", device) for device in devices), system=system)


@pytest.mark.parametrize(
    ("devices", "system", "cuda"),
    [
        ((ADA,), "debian12", "cuda12.9-80.86.89.90"),
        ((ADA, TURING, ADA), "debian12", "cuda12.9-75.80.86.89.90"),
        ((VOLTA,), "ubuntu2404", "cuda12.9-50.60.61.70"),
        ((BLACKWELL,), "ubuntu2204", "cuda12.9-100.120a.121a"),
        ((ADA,), "debian13", "cuda13.1-80.86.89.90"),
    ],
)
def test_cuda_version_fits_gpus_and_host_release(devices: tuple[int, ...], system: str, cuda: str) -> None:
    chosen = cuda_for(machine(*devices, system=system), 580)
    assert str(chosen) == cuda
    assert Cuda.parse(cuda) == chosen


def test_cuda_version_may_be_declared() -> None:
    assert cuda_for(machine(ADA), 580, "13.1").version == "13.1"


@pytest.mark.parametrize(
    ("devices", "system", "branch", "wanted", "said", "advice"),
    [
        ((PASCAL,), "debian13", 580, None, "known to CUDA 12.9 and earlier only", "use Debian 12"),
        ((PASCAL,), "debian12", 580, "13.1", "known to CUDA 12.9 and earlier only", "nvidia.cuda: 12.9"),
        ((ADA,), "debian13", 580, "12.9", "cannot be compiled with on debian13", "13.1"),
        ((BLACKWELL,), "debian12", 580, "12.6", "does not know", "12.9 or later"),
        ((KEPLER,), "debian12", 580, None, "does not know", "gpu: none"),
        ((ADA,), "debian13", 570, None, "needs driver branch 580", "nvidia.branch: 580"),
    ],
)
def test_cuda_that_does_not_fit_is_refused_with_a_hint(
    devices: tuple[int, ...], system: str, branch: int, wanted: str | None, said: str, advice: str
) -> None:
    with pytest.raises(ClawdError, match=said) as caught:
        cuda_for(machine(*devices, system=system), branch, wanted)
    assert advice in str(caught.value.advice)


def test_cuda_packages_and_paths_are_those_of_the_nvidia_repository() -> None:
    cuda = Cuda("12.9", ("86",))
    assert cuda.libraries == ("cuda-cudart-12-9", "libcublas-12-9")
    assert {"cuda-nvcc-12-9", "libcublas-dev-12-9"} < set(cuda.compiler)
    assert cuda.library_path("amd64") == "/usr/local/cuda-12.9/targets/x86_64-linux/lib"
    assert cuda.library_path("arm64") == "/usr/local/cuda-12.9/targets/sbsa-linux/lib"


@pytest.mark.parametrize("text", ["", "cuda12.9", "cuda-86", "cuda12.9-86 -DX", "cuda12.9-86;90"])
def test_cuda_parse_refuses_malformed_text(text: str) -> None:
    with pytest.raises(ValueError, match="names no CUDA"):
        Cuda.parse(text)
