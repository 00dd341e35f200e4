from __future__ import annotations

import socket
import stat

import pytest

from clawd_runtime.engine.http.listen import tcp_socket, unix_socket
from clawd_runtime.errors import SettingsError


def test_socket_mode_and_removal(tmp_path):
    path = tmp_path / "e.sock"
    with unix_socket(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert not path.exists()


def test_stale_socket_is_replaced(tmp_path):
    path = tmp_path / "e.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    with unix_socket(path) as listener:
        listener.listen()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_socket_of_running_engine_is_refused(tmp_path):
    path = tmp_path / "e.sock"
    with unix_socket(path) as listener:
        listener.listen()
        with pytest.raises(SettingsError, match="another engine"), unix_socket(path):
            pass
        assert path.exists()


def test_socket_of_successor_is_not_removed(tmp_path):
    path = tmp_path / "e.sock"
    with unix_socket(path):
        path.unlink()
        with socket.socket(socket.AF_UNIX) as successor:
            successor.bind(str(path))
    assert path.exists()


def test_regular_file_is_never_removed(tmp_path):
    path = tmp_path / "e.sock"
    path.write_text("precious")
    with pytest.raises(SettingsError, match="exists and is not a socket"), unix_socket(path):
        pass
    assert path.read_text() == "precious"


def test_missing_socket_folder_is_reported(tmp_path):
    with (
        pytest.raises(SettingsError, match="cannot create the socket"),
        unix_socket(tmp_path / "no" / "e.sock"),
    ):
        pass


def test_tcp_port_in_use_is_reported():
    with tcp_socket("127.0.0.1", 0) as first:
        first.listen()
        port = first.getsockname()[1]
        with pytest.raises(SettingsError, match=f"127.0.0.1:{port}"), tcp_socket("127.0.0.1", port):
            pass
