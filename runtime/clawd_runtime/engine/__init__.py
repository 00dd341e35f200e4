"""clawd-engine: one GGUF model behind the OpenAI chat protocol, with continuous batching by llama.cpp."""

import os

# How long a compute thread spins while it waits for the others before it sleeps, in iterations of a few
# nanoseconds. By default libgomp spins for milliseconds, which takes the processor from the thread that the
# others wait for: with other programs busy on the same cores, answers are then several times slower. libgomp
# reads this once, when llama.cpp is loaded, so it is set before any module of this package can load it.
os.environ.setdefault("GOMP_SPINCOUNT", "300")
