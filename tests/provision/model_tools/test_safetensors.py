"""Conversion of folders of safetensors: what is refused, and how the converter runs.

The converter itself needs PyTorch, so a program of the tests takes its place.
"""

from __future__ import annotations

import io
import json
import sys
import tarfile
from pathlib import Path

import pytest

from inventory.errors import ArtifactError, ClawdError, ToolError
from inventory.model_files.tensor_types import main_type
from provision.artifacts import converter
from provision.model_tools.quantisation import ConversionTarget, default_target, quantise_folder
from provision.model_tools.safetensors import Converter, check_folder, check_python
from provision.model_tools.worker import ToolWorker


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files of a model."""
    made = tmp_path / "Qwen2.5-0.5B-Instruct"
    made.mkdir()
    (made / "config.json").write_text("{}")
    (made / "model.safetensors").write_bytes(b"weights")
    return made


def that_runs(folder: Path, program: str) -> Converter:
    path = folder / "convert.py"
    path.write_text(f"import os, shutil, sys\n_, source, _, target, _, kind = sys.argv\n{program}\n")
    return Converter(path, Path(sys.executable))


def test_whole_folder_is_accepted(folder: Path) -> None:
    check_folder(folder, trust_code=False)


def test_folder_without_a_model_or_with_missing_parts_is_refused(folder: Path) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ClawdError, match=r"lacks model-00002\.safetensors"):
        check_folder(folder, trust_code=False)
    (folder / "model.safetensors.index.json").write_text("[")
    with pytest.raises(ClawdError, match="is damaged"):
        check_folder(folder, trust_code=False)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ClawdError, match=r"has no \*\.safetensors"):
        check_folder(folder, trust_code=False)
    (folder / "config.json").unlink()
    with pytest.raises(ClawdError, match=r"it has no config\.json"):
        check_folder(folder, trust_code=False)


def test_folder_with_code_is_refused_unless_it_is_trusted(folder: Path) -> None:
    (folder / "modeling.py").touch()
    with pytest.raises(ClawdError, match=r"has code that the converter may run: modeling\.py"):
        check_folder(folder, trust_code=False)
    check_folder(folder, trust_code=True)


def test_python_without_the_packages_is_refused_with_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="is needed") as caught:
        check_python(None)
    assert "pip install numpy sentencepiece torch transformers" in caught.value.advice
    with pytest.raises(ToolError, match=r"has no .*torch"):
        check_python(Path(sys.executable))
    with pytest.raises(ToolError, match="cannot run"):
        check_python(tmp_path / "none")


def test_default_name_is_next_to_the_folder_with_its_whole_name(folder: Path) -> None:
    assert default_target(folder, "Q8_0") == folder.parent / "Qwen2.5-0.5B-Instruct-q8_0.gguf"


@pytest.mark.model
def test_folder_is_converted_then_quantised_and_nothing_else_left(
    worker: ToolWorker, real_model: Path, folder: Path, tmp_path: Path
) -> None:
    program = f"print('Writing:  50%|'); assert kind == 'auto'; shutil.copyfile({str(real_model)!r}, target)"
    seen: list[tuple[str, float | None]] = []
    made = quantise_folder(
        folder,
        ConversionTarget(tmp_path / "m.gguf", "Q4_0"),
        worker,
        that_runs(folder, program),
        lambda what, part=None, /: seen.append((what, part)),
    )
    assert (f"converting {folder.name} to GGUF", 0.5) in seen
    assert (made.source, made.target) == (folder, tmp_path / "m.gguf")
    assert main_type(made.after.tensor_types) == "Q4_0"
    assert sorted(path.name for path in tmp_path.iterdir()) == [folder.name, "m.gguf"]


@pytest.mark.parametrize("end", ["sys.exit(1)", "sys.exit(0)"])
def test_failed_conversion_is_reported_with_its_output(folder: Path, tmp_path: Path, end: str) -> None:
    with pytest.raises(ArtifactError, match="no such architecture"):
        that_runs(folder, f"print('no such architecture'); {end}").convert(folder, tmp_path / "m.gguf")


def test_converter_may_not_download_and_gets_no_other_variables(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAWD_SECRET", "secret")
    target = tmp_path / "m.gguf"
    that_runs(folder, "open(target, 'w').write(repr(dict(os.environ)))").convert(folder, target)
    seen = target.read_text()
    assert "'HF_HUB_OFFLINE': '1'" in seen
    assert "secret" not in seen


def test_converter_is_unpacked_from_the_source_of_the_engine(tmp_path: Path) -> None:
    names = ("convert_hf_to_gguf.py", "conversion/base.py", "gguf-py/gguf/__init__.py", "src/llama.cpp")
    sdist = tmp_path / "llama.tar.gz"
    with tarfile.open(sdist, "w:gz") as archive:
        for name in (*(f"llama-1/vendor/llama.cpp/{name}" for name in names), "llama-1/setup.py"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    converter.unpack(sdist, tmp_path / "out")
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert sorted(str(path.relative_to(tmp_path / "out")) for path in files) == sorted(names[:3])
    with tarfile.open(sdist, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("llama-1/setup.py"), io.BytesIO())
    with pytest.raises(ArtifactError, match=r"has no convert_hf_to_gguf\.py"):
        converter.unpack(sdist, tmp_path / "empty")
