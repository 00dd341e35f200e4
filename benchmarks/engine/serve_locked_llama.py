"""Serve a model with llama-cpp-python's `Llama`, one request at a time: MODEL SOCKET SLOTS CONTEXT THREADS.

This is what one gets without a batching engine.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import iterate_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from clawd_runtime.engine.llama.backends import load_backends


def main() -> None:
    """Serve until the process is stopped."""
    model, socket, _, context, threads = sys.argv[1:]
    load_backends()
    from llama_cpp import Llama  # after the back ends

    llama = Llama(
        model, n_ctx=int(context), n_threads=int(threads), n_threads_batch=int(threads), verbose=False
    )
    lock = threading.Lock()

    def answer(asked: dict[str, object]) -> Iterator[str]:
        options = {name: asked[name] for name in ("messages", "max_tokens", "temperature")}
        with lock:
            for piece in llama.create_chat_completion(**options, stream=True):
                yield f"data: {json.dumps(piece)}\n\n"

    async def complete(request: Request) -> StreamingResponse:
        return StreamingResponse(iterate_in_threadpool(answer(await request.json())))

    async def health(_: Request) -> PlainTextResponse:
        return PlainTextResponse("ready")

    routes = [Route("/health", health), Route("/v1/chat/completions", complete, methods=["POST"])]
    uvicorn.run(Starlette(routes=routes), uds=socket, log_level="warning")


if __name__ == "__main__":
    main()
