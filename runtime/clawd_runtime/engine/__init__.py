"""clawd-engine: one GGUF model behind the OpenAI chat protocol, with continuous batching over llama.cpp."""

import os

# How long a compute thread spins for the others before it sleeps, in turns of a loop of some nanoseconds.
# By default libgomp spins for milliseconds, which takes the processor from whoever holds the others up: with
# other programs busy on the same cores, answers then come several times slower. libgomp reads this once, when
# llama.cpp is loaded, so it is set before any module of this package can load it.
os.environ.setdefault("GOMP_SPINCOUNT", "300")
