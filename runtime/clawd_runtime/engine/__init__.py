"""clawd-engine: one GGUF model behind the OpenAI chat protocol, with continuous batching over llama.cpp."""
