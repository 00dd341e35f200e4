from __future__ import annotations

import struct

import pytest

from clawd_runtime.engine.llama.gguf import check_gguf
from clawd_runtime.errors import ModelError


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not a GGUF"),
        (b"GGUF", "not a GGUF"),
        (b"<html>Not found</html>" * 3, "not a GGUF"),
        (struct.pack("<4sIQQ", b"GGUF", 1, 5, 5), "version 1"),
        (struct.pack("<4sIQQ", b"GGUF", 3, 0, 5), "0 tensors"),
    ],
)
def test_file_that_is_not_a_model_is_reported(tmp_path, content, said):
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=said) as caught:
        check_gguf(path)
    assert str(path) in str(caught.value)


def test_missing_model_file_is_reported(tmp_path):
    with pytest.raises(ModelError, match="No such file"):
        check_gguf(tmp_path / "none.gguf")
