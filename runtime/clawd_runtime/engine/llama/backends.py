"""Loading of ggml's compute back end for this processor.

A wheel of llama-cpp-python built with `GGML_BACKEND_DL` contains one shared library per processor
generation, and nothing in it loads any of them: without this module no model would load. A natively built
wheel has its only back end linked in and needs nothing.
"""

from __future__ import annotations

import ctypes
import os
import re
from dataclasses import dataclass
from pathlib import Path

import llama_cpp

from clawd_runtime.engine.llama.log import take_over_log
from clawd_runtime.errors import ModelError

_VARIANT = re.compile(r"/libggml-cpu-([a-z0-9_.]+)\.so")


@dataclass(frozen=True, slots=True)
class GgmlBackend:
    """The loaded back end: `variant` is the processor generation (`zen4`, `haswell`, …) or `native`."""

    variant: str
    features: str


def load_backends() -> GgmlBackend:
    """Load ggml's back ends and return the chosen one. Call before the first model is loaded; idempotent.

    Raises:
        ModelError: No back end of the installed wheel runs on this processor.

    """
    take_over_log()
    library = _ggml(Path(llama_cpp.__file__).parent)
    if library.ggml_backend_reg_count() == 0:
        for folder in _variant_folders(Path(llama_cpp.__file__).parent):
            library.ggml_backend_load_all_from_path(os.fsencode(folder))
    if library.ggml_backend_reg_count() == 0:
        raise ModelError(
            "no compute back end of the installed llama-cpp-python runs on this processor",
            advice="check that the folder bin/ next to the package llama_cpp has the wheel's "
            "libggml-cpu-*.so, and that libgomp.so.1 is installed",
        )
    return GgmlBackend(
        variant=_chosen_variant(), features=llama_cpp.llama_print_system_info().decode().strip()
    )


def require_gpu() -> tuple[str, ...]:
    """Return the names of the GPUs that llama.cpp computes on. Call after `load_backends`.

    llama.cpp itself continues without a GPU, and a model sized for one would then take all of the host's
    memory and minutes for an answer (ggml-org/llama.cpp issue 27923).

    Raises:
        ModelError: There is no usable GPU; the message names what is missing.

    """
    package = Path(llama_cpp.__file__).parent
    found = _gpus(_ggml(package)) if llama_cpp.llama_supports_gpu_offload() else ()
    if found:
        return found
    libraries = [file for folder in _library_folders(package) for file in folder.glob("libggml-cuda*.so")]
    if not libraries:
        raise ModelError(
            "cannot use the GPU: the installed llama-cpp-python is built for processors only",
            advice="install a release that is built with CUDA: run `clawd-provision up` with this host's GPU "
            "declared (`gpu: auto` or `gpu: required`)",
        )
    try:
        ctypes.CDLL(str(libraries[0]))
    except OSError as error:
        raise ModelError(
            f"cannot use the GPU: CUDA cannot be loaded: {error}",
            advice="install the driver (libcuda.so.1), and cuda-cudart and libcublas of the CUDA version "
            "that the release was built with",
        ) from error
    raise ModelError(
        "cannot use the GPU: CUDA finds no usable device",
        advice="check that `nvidia-smi` lists it and that /dev/nvidia0, /dev/nvidiactl and /dev/nvidia-uvm "
        "exist and this service may open them (`nvidia-modprobe -u -c 0` creates them); reboot after "
        "installing a new driver",
    )


# ggml_backend_dev_type of ggml-backend.h: a GPU with its own memory, and one that shares the processor's.
_GPU_TYPES = (1, 2)


def _gpus(library: ctypes.CDLL) -> tuple[str, ...]:
    """Return the names of the registered GPUs."""
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
    """Return the libggml that libllama is linked to.

    The wheel has copies where the build had links, so `libggml.so` would be a second, separate registry.
    """
    folder = package / "lib"
    name = next((name for name in ("libggml.so.0", "libggml.so") if (folder / name).exists()), None)
    if name is None:
        raise ModelError(
            f"llama-cpp-python is incomplete: no libggml.so.0 in {folder}",
            advice="install the release again",
        )
    library = ctypes.CDLL(str(folder / name))
    library.ggml_backend_reg_count.restype = ctypes.c_size_t
    library.ggml_backend_load_all_from_path.argtypes = [ctypes.c_char_p]
    library.ggml_backend_load_all_from_path.restype = None
    return library


def _variant_folders(package: Path) -> list[Path]:
    """Return the folders with processor variants: `bin/` next to the package, or that of the libraries."""
    return [folder for folder in _library_folders(package) if any(folder.glob("libggml-cpu-*.so"))]


def _library_folders(package: Path) -> tuple[Path, ...]:
    return package.parent / "bin", package / "lib"


def _chosen_variant() -> str:
    """Return the variant that is mapped into this process; ggml unmaps those that it only scored."""
    try:
        mapped = Path("/proc/self/maps").read_text()
    except OSError:
        return "unknown"
    found = _VARIANT.search(mapped)
    return found.group(1) if found else "native"
