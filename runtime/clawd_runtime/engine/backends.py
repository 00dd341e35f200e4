"""The compute back ends of ggml: loading the right one for this processor.

A wheel of llama-cpp-python built with `GGML_BACKEND_DL` carries one shared library a processor
generation, and nothing in it loads any of them: without this module no model would load. A natively built
wheel has its one back end linked in and needs nothing.
"""

from __future__ import annotations

import ctypes
import os
import re
from dataclasses import dataclass
from pathlib import Path

import llama_cpp

from clawd_runtime.engine.llamalog import take_over_log
from clawd_runtime.errors import ModelError

_VARIANT = re.compile(r"/libggml-cpu-([a-z0-9_.]+)\.so")


@dataclass(frozen=True, slots=True)
class Backend:
    """What computes: `variant` is the processor generation (`zen4`, `haswell`, …) or `native`."""

    variant: str
    features: str


def load_backends() -> Backend:
    """Make ggml's back ends available; to be called before the first model is loaded. Idempotent.

    Raises:
        ModelError: no back end of the installed wheel runs on this processor.
    """
    take_over_log()
    library = _ggml(Path(llama_cpp.__file__).parent)
    if library.ggml_backend_reg_count() == 0:
        for folder in _variant_folders(Path(llama_cpp.__file__).parent):
            library.ggml_backend_load_all_from_path(os.fsencode(folder))
    if library.ggml_backend_reg_count() == 0:
        raise ModelError(
            "no compute back end of the installed llama-cpp-python runs on this processor",
            advice="the folder bin/ beside the package llama_cpp must hold the wheel's libggml-cpu-*.so, "
            "and libgomp.so.1 must be installed",
        )
    return Backend(variant=_chosen_variant(), features=llama_cpp.llama_print_system_info().decode().strip())


def require_gpu() -> tuple[str, ...]:
    """The names of the GPUs that llama.cpp computes on; to be called after `load_backends`.

    llama.cpp itself goes on without one, and a model made for a GPU would then take all of the host's memory
    and minutes for an answer (ggml-org/llama.cpp issue 27923).

    Raises:
        ModelError: there is none that it can use; says what is missing.
    """
    package = Path(llama_cpp.__file__).parent
    found = _gpus(_ggml(package)) if llama_cpp.llama_supports_gpu_offload() else ()
    if found:
        return found
    libraries = [file for folder in _library_folders(package) for file in folder.glob("libggml-cuda*.so")]
    if not libraries:
        raise ModelError(
            "the model is to be computed on a GPU, and the installed llama-cpp-python knows processors only",
            advice="install a release that is built with CUDA: run `clawd-provision up` with this host's GPU "
            "declared (`gpu: auto` or `gpu: required`)",
        )
    try:
        ctypes.CDLL(str(libraries[0]))
    except OSError as error:
        raise ModelError(
            f"the model is to be computed on a GPU, and CUDA cannot be loaded: {error}",
            advice="the driver (libcuda.so.1) must be installed, and cuda-cudart and libcublas of the CUDA "
            "version that the release was built with",
        ) from error
    raise ModelError(
        "the model is to be computed on a GPU, and CUDA finds none that it can use",
        advice="`nvidia-smi` must list it, and /dev/nvidia0, /dev/nvidiactl and /dev/nvidia-uvm be there and "
        "allowed to this service (`nvidia-modprobe -u -c 0` makes them); a new driver needs a reboot",
    )


# ggml_backend_dev_type of ggml-backend.h: one of its own memory, and one that shares the processor's.
_GPU_TYPES = (1, 2)


def _gpus(library: ctypes.CDLL) -> tuple[str, ...]:
    """What the registered GPUs are called."""
    library.ggml_backend_dev_count.restype = ctypes.c_size_t
    library.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    library.ggml_backend_dev_get.restype = ctypes.c_void_p
    library.ggml_backend_dev_type.argtypes = [ctypes.c_void_p]
    library.ggml_backend_dev_type.restype = ctypes.c_int
    library.ggml_backend_dev_description.argtypes = [ctypes.c_void_p]
    library.ggml_backend_dev_description.restype = ctypes.c_char_p
    devices = [library.ggml_backend_dev_get(number) for number in range(library.ggml_backend_dev_count())]
    return tuple(
        library.ggml_backend_dev_description(device).decode(errors="replace")
        for device in devices
        if library.ggml_backend_dev_type(device) in _GPU_TYPES
    )


def _ggml(package: Path) -> ctypes.CDLL:
    """The very libggml that libllama is bound to.

    The wheel holds copies where the build had links, so `libggml.so` would be a second, separate registry.
    """
    folder = package / "lib"
    name = next((name for name in ("libggml.so.0", "libggml.so") if (folder / name).exists()), None)
    if name is None:
        raise ModelError(
            f"llama-cpp-python is incomplete: there is no libggml.so.0 in {folder}",
            advice="install the release again",
        )
    library = ctypes.CDLL(str(folder / name))
    library.ggml_backend_reg_count.restype = ctypes.c_size_t
    library.ggml_backend_load_all_from_path.argtypes = [ctypes.c_char_p]
    library.ggml_backend_load_all_from_path.restype = None
    return library


def _variant_folders(package: Path) -> list[Path]:
    """Where a wheel keeps its processor variants: `bin/` beside the package, or with the other libraries."""
    return [folder for folder in _library_folders(package) if any(folder.glob("libggml-cpu-*.so"))]


def _library_folders(package: Path) -> tuple[Path, ...]:
    return package.parent / "bin", package / "lib"


def _chosen_variant() -> str:
    """Which variant is mapped into this process. ggml unmaps the ones that it only asked for their score."""
    try:
        mapped = Path("/proc/self/maps").read_text()
    except OSError:
        return "unknown"
    found = _VARIANT.search(mapped)
    return found.group(1) if found else "native"
