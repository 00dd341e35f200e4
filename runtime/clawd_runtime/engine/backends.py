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
    candidates = [package.parent / "bin", package / "lib"]
    return [folder for folder in candidates if any(folder.glob("libggml-cpu-*.so"))]


def _chosen_variant() -> str:
    """Which variant is mapped into this process. ggml unmaps the ones that it only asked for their score."""
    try:
        mapped = Path("/proc/self/maps").read_text()
    except OSError:
        return "unknown"
    found = _VARIANT.search(mapped)
    return found.group(1) if found else "native"
