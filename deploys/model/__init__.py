"""The language model that clawd-engine serves: a GGUF file whose name contains its digest."""
