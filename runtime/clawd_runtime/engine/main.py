"""The command `clawd-engine`.

Exit codes: 0 stopped by a signal, 1 the model cannot be served, 2 wrong command line or settings.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import socket
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from clawd_runtime import logs
from clawd_runtime.engine.http.listen import tcp_socket, unix_socket
from clawd_runtime.engine.llama.model import open_model
from clawd_runtime.engine.process import EngineProcess
from clawd_runtime.engine.settings import EngineSettings, read_settings
from clawd_runtime.errors import SettingsError

_log = logging.getLogger("clawd.engine")


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT and return the exit code."""
    options = _parser().parse_args(arguments)
    logs.configure(logging.DEBUG if options.verbose else logging.INFO)
    # At every start and stop they log what our own log contains already.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    try:
        settings = read_settings(options.config)
        with _listener(options, settings) as listener:
            return asyncio.run(EngineProcess(settings, listener, open_model).run())
    except SettingsError as fault:
        _log.error("%s", fault)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="clawd-engine", description="Serve one GGUF model over the OpenAI chat protocol."
    )
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="path of engine.json")
    parser.add_argument(
        "--port", type=int, help="listen on this TCP port instead of the configured socket; 0: any free port"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address for --port (default: %(default)s)")
    parser.add_argument("--verbose", action="store_true", help="also log the warnings of llama.cpp")
    return parser


def _listener(options: argparse.Namespace, settings: EngineSettings) -> AbstractContextManager[socket.socket]:
    if options.port is None:
        return unix_socket(Path(settings.socket))
    return tcp_socket(options.host, options.port)
