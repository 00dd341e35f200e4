from __future__ import annotations

import json

import pytest

from clawd_runtime.engine.settings import read_settings
from clawd_runtime.errors import SettingsError

GOOD = {
    "socket": "/run/clawd-engine/engine.sock",
    "model": "/var/lib/clawd/models/x.gguf",
    "model_name": "x",
    "context_size": 4096,
    "parallel": 4,
    "threads": None,
}


def test_documented_engine_settings_are_read(tmp_path):
    path = tmp_path / "engine.json"
    path.write_text(json.dumps(GOOD))
    settings = read_settings(path)
    assert (settings.model_name, settings.parallel, settings.threads) == ("x", 4, None)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"paralel": 4}, "paralel"),
        ({"parallel": "4"}, "parallel"),
        ({"parallel": 0}, "parallel"),
        ({"context_size": 10}, "context_size"),
        ({"socket": "relative.sock"}, "socket"),
        ({"socket": "/" + "x" * 120}, "socket"),
        ({"threads": 0}, "threads"),
        ({"model_name": ""}, "model_name"),
        ({"n_gpu_layers": -1}, "n_gpu_layers"),
        ({"n_gpu_layers": "some"}, "n_gpu_layers"),
    ],
)
def test_invalid_setting_is_reported(tmp_path, change, named):
    path = tmp_path / "engine.json"
    path.write_text(json.dumps(GOOD | change))
    with pytest.raises(SettingsError, match=named) as caught:
        read_settings(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("said", ["all", 40, 0])
def test_n_gpu_layers_values(tmp_path, said):
    path = tmp_path / "engine.json"
    path.write_text(json.dumps(GOOD))
    assert read_settings(path).n_gpu_layers == 0
    path.write_text(json.dumps(GOOD | {"n_gpu_layers": said}))
    assert read_settings(path).n_gpu_layers == said


def test_all_invalid_settings_are_reported_at_once(tmp_path):
    path = tmp_path / "engine.json"
    path.write_text(json.dumps(GOOD | {"threads": -1, "parallel": 0}))
    with pytest.raises(SettingsError, match=r"parallel.*threads"):
        read_settings(path)


def test_missing_file_and_invalid_json_are_reported(tmp_path):
    with pytest.raises(SettingsError, match="cannot read"):
        read_settings(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(SettingsError, match=r"bad\.json"):
        read_settings(tmp_path / "bad.json")
