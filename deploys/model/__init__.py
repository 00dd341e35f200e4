"""The language model that clawd-engine serves: a GGUF file under a name that says its content."""
