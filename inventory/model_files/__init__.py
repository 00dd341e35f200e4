"""The file of a model: header, chat template, memory, tokens."""
