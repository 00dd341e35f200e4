"""Serve a model with xllamacpp's own server: MODEL SOCKET SLOTS CONTEXT THREADS."""

from __future__ import annotations

import signal
import sys

import xllamacpp

model, socket, slots, context, threads = sys.argv[1:]
parameters = xllamacpp.CommonParams()
parameters.model.path = model
parameters.n_parallel = int(slots)
parameters.n_ctx = int(slots) * int(context)
parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = int(threads)
parameters.hostnames = [f"{socket}.sock"]
server = xllamacpp.Server(parameters)
print("listening on", server.listening_address, flush=True)
signal.sigwait({signal.SIGTERM, signal.SIGINT})
