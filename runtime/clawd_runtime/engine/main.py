"""The command `clawd-engine`.

Exit codes: 0 ended when asked to, 1 the model cannot be served, 2 wrong command line or settings.
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
from clawd_runtime.engine.listen import tcp_socket, unix_socket
from clawd_runtime.engine.process import EngineProcess
from clawd_runtime.engine.settings import EngineSettings, read_settings
from clawd_runtime.errors import SettingsError

_log = logging.getLogger("clawd.engine")


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; the exit code."""
    options = _parser().parse_args(arguments)
    logs.configure(logging.DEBUG if options.verbose else logging.INFO)
    # Says at every start and end what our own log says already.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    try:
        settings = read_settings(options.config)
        with _listener(options, settings) as listener:
            return asyncio.run(EngineProcess(settings, listener).run())
    except SettingsError as fault:
        _log.error("%s", fault)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="clawd-engine", description="Serves one GGUF model over the OpenAI chat protocol."
    )
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="engine.json")
    parser.add_argument(
        "--port", type=int, help="listen on TCP instead of the socket of the settings; 0: any"
    )
    parser.add_argument("--host", default="127.0.0.1", help="the address for --port (default: %(default)s)")
    parser.add_argument("--verbose", action="store_true", help="log what llama.cpp warns of, too")
    return parser


def _listener(options: argparse.Namespace, settings: EngineSettings) -> AbstractContextManager[socket.socket]:
    if options.port is None:
        return unix_socket(Path(settings.socket))
    return tcp_socket(options.host, options.port)
