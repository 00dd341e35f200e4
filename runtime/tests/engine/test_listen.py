from __future__ import annotations

import socket
import stat

import pytest

from clawd_runtime.engine.listen import tcp_socket, unix_socket
from clawd_runtime.errors import SettingsError


def test_only_user_and_group_may_connect_and_the_file_goes(tmp_path):
    path = tmp_path / "e.sock"
    with unix_socket(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert not path.exists()


def test_what_a_killed_engine_left_is_replaced(tmp_path):
    path = tmp_path / "e.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    with unix_socket(path) as listener:
        listener.listen()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_a_living_engine_is_not_disturbed(tmp_path):
    path = tmp_path / "e.sock"
    with unix_socket(path) as listener:
        listener.listen()
        with pytest.raises(SettingsError, match="another engine"), unix_socket(path):
            pass
        assert path.exists()


def test_the_socket_of_a_successor_stays(tmp_path):
    path = tmp_path / "e.sock"
    with unix_socket(path):
        path.unlink()
        with socket.socket(socket.AF_UNIX) as successor:
            successor.bind(str(path))
    assert path.exists()


def test_an_ordinary_file_is_never_removed(tmp_path):
    path = tmp_path / "e.sock"
    path.write_text("precious")
    with pytest.raises(SettingsError, match="is no socket"), unix_socket(path):
        pass
    assert path.read_text() == "precious"


def test_a_missing_folder_is_named(tmp_path):
    with (
        pytest.raises(SettingsError, match="cannot make the socket"),
        unix_socket(tmp_path / "no" / "e.sock"),
    ):
        pass


def test_a_tcp_port_in_use_is_named():
    with tcp_socket("127.0.0.1", 0) as first:
        first.listen()
        port = first.getsockname()[1]
        with pytest.raises(SettingsError, match=f"127.0.0.1:{port}"), tcp_socket("127.0.0.1", port):
            pass
